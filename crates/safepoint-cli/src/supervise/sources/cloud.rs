//! Spot notices: a cloud says, some 30 seconds to two minutes before, that it takes the machine back.
//!
//! Sources: AWS, "Spot Instance interruption notices" (two minutes; by `IMDSv2`); Google Cloud, "Handle preemption" (30 seconds); Azure, "Scheduled Events"
//! (30 seconds).

use serde_json::Value;

use super::first_line;
use super::http::{Answer, ask};
use crate::supervise::args::Cloud;

/// The address of a machine's own metadata, the same for all three.
const LINK_LOCAL: &str = "169.254.169.254:80";

/// A cloud that is asked.
#[derive(Debug)]
pub(super) struct Watch {
    cloud: Cloud,
    endpoint: String,
    /// The token of `IMDSv2`, asked for again when it is refused.
    token: Option<String>,
}

impl Watch {
    pub(super) fn new(cloud: Cloud, endpoint: Option<String>) -> Self {
        Self {
            cloud,
            endpoint: endpoint.unwrap_or_else(|| LINK_LOCAL.to_owned()),
            token: None,
        }
    }

    /// The notice, if there is one now.
    pub(super) fn look(&mut self) -> Option<String> {
        match self.cloud {
            Cloud::Aws => self.aws(),
            Cloud::Gcp => self.gcp(),
            Cloud::Azure => self.azure(),
            Cloud::Auto => self.aws().or_else(|| self.gcp()).or_else(|| self.azure()),
        }
    }

    fn aws(&mut self) -> Option<String> {
        if self.token.is_none() {
            let ttl = [("X-aws-ec2-metadata-token-ttl-seconds", "21600")];
            let token = ask(&self.endpoint, "PUT", "/latest/api/token", &ttl)?;
            self.token = (token.code == 200).then(|| first_line(&token.body, String::new()));
        }
        let token = self.token.clone()?;
        let headers = [("X-aws-ec2-metadata-token", token.as_str())];
        let path = "/latest/meta-data/spot/instance-action";
        let answer = ask(&self.endpoint, "GET", path, &headers)?;
        if answer.code == 401 {
            self.token = None;
        }
        let notice = json(&answer)?;
        let action = notice.get("action")?.as_str()?;
        let time = notice.get("time").and_then(Value::as_str).unwrap_or("soon");
        Some(format!(
            "AWS takes the spot instance back ({action} at {time})"
        ))
    }

    fn gcp(&self) -> Option<String> {
        let path = "/computeMetadata/v1/instance/preempted";
        let answer = ask(
            &self.endpoint,
            "GET",
            path,
            &[("Metadata-Flavor", "Google")],
        )?;
        let is_preempted = answer.code == 200 && answer.body.trim() == "TRUE";
        is_preempted.then(|| "Google Cloud takes the spot machine back".to_owned())
    }

    fn azure(&self) -> Option<String> {
        let path = "/metadata/scheduledevents?api-version=2020-07-01";
        let answer = ask(&self.endpoint, "GET", path, &[("Metadata", "true")])?;
        let notice = json(&answer)?;
        let is_end = |event: &&Value| {
            let kind = event.get("EventType").and_then(Value::as_str);
            matches!(kind, Some("Preempt" | "Terminate"))
        };
        let event = notice.get("Events")?.as_array()?.iter().find(is_end)?;
        let time = event
            .get("NotBefore")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let time = first_line(time, "soon".into());
        Some(format!(
            "Azure takes the spot machine back (not before {time})"
        ))
    }
}

fn json(answer: &Answer) -> Option<Value> {
    (answer.code == 200)
        .then(|| serde_json::from_str(&answer.body).ok())
        .flatten()
}

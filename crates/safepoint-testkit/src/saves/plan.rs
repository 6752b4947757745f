//! What a saver saves: all of it follows from a seed, so that every state can be told from every other.

use std::ffi::OsString;

use safepoint::checkpoint::{Checkpoint, Compression, Element, State};

use crate::random::Random;

/// The content is made in blocks of this many bytes, because a saver is often built without optimizations.
const BLOCK: usize = 4096;

/// Which call saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// `save`.
    #[default]
    Now,
    /// `save_small`, so to a journal where it can.
    Small,
    /// `save_in_background`, and `finish_background` once the next step is made.
    Background,
}

impl How {
    const ALL: [(Self, &str); 3] = [
        (Self::Now, "now"),
        (Self::Small, "small"),
        (Self::Background, "background"),
    ];

    fn name(self) -> String {
        let mut all = Self::ALL.iter();
        let found = all.find(|(how, _)| *how == self);
        found.map_or("", |(_, name)| name).to_owned()
    }

    fn parse(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(_, other)| *other == name).map(|(how, _)| *how)
    }
}

/// States to be saved, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which call saves them.
    pub how: How,
    /// The states; each step saves all of them.
    pub names: Vec<String>,
    /// Decides the content.
    pub seed: u64,
    /// The length of a state; a step has up to a hundred more, so that no two are alike.
    pub bytes: usize,
    /// The state is cut into so many named buffers; 0: it is the value.
    pub buffers: usize,
    /// Whether the content is such that compression pays.
    pub compressible: bool,
    /// How many steps to make.
    pub steps: u64,
    /// How many generations stay.
    pub keep: usize,
    /// Threads for one state.
    pub workers: usize,
    /// A line on standard input is waited for before each step.
    pub prompted: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            how: How::Now,
            names: vec!["model".to_owned()],
            seed: 1,
            bytes: 3000,
            buffers: 0,
            compressible: false,
            steps: 1,
            keep: 2,
            workers: 2,
            prompted: false,
        }
    }
}

impl Plan {
    /// The arguments of the program `saver`, behind the directory.
    pub fn arguments(&self) -> Vec<OsString> {
        let settings = [
            ("--how", self.how.name()),
            ("--names", self.names.join(",")),
            ("--seed", self.seed.to_string()),
            ("--bytes", self.bytes.to_string()),
            ("--buffers", self.buffers.to_string()),
            ("--compressible", self.compressible.to_string()),
            ("--steps", self.steps.to_string()),
            ("--keep", self.keep.to_string()),
            ("--workers", self.workers.to_string()),
            ("--prompted", self.prompted.to_string()),
        ];
        settings
            .into_iter()
            .flat_map(|(name, value)| [name.into(), value.into()])
            .collect()
    }

    /// The other way round.
    ///
    /// # Errors
    ///
    /// The first argument that makes no sense.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        fn read<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
            value
                .parse()
                .map_err(|_| format!("{name}: `{value}` makes no sense"))
        }
        let mut plan = Self::default();
        for pair in arguments.chunks(2) {
            let [name, value] = pair else {
                return Err(format!("{} needs a value", pair[0]));
            };
            match name.as_str() {
                "--how" => {
                    plan.how = How::parse(value).ok_or(format!("{name}: `{value}`?"))?;
                }
                "--names" => plan.names = value.split(',').map(str::to_owned).collect(),
                "--seed" => plan.seed = read(name, value)?,
                "--bytes" => plan.bytes = read(name, value)?,
                "--buffers" => plan.buffers = read(name, value)?,
                "--compressible" => plan.compressible = read(name, value)?,
                "--steps" => plan.steps = read(name, value)?,
                "--keep" => plan.keep = read(name, value)?,
                "--workers" => plan.workers = read(name, value)?,
                "--prompted" => plan.prompted = read(name, value)?,
                _ => return Err(format!("unknown argument {name}")),
            }
        }
        Ok(plan)
    }

    /// How the frames are to be packed.
    pub fn compression(&self) -> Compression {
        if self.compressible {
            Compression::WherePays
        } else {
            Compression::Never
        }
    }

    /// The bytes of a state at a step.
    pub fn payload(&self, name: &str, step: u64) -> Vec<u8> {
        let place = self.names.iter().position(|one| one == name).unwrap_or(0);
        let mut random = Random::new(self.seed ^ (step << 20) ^ ((place as u64) << 50));
        let bytes = self.bytes + usize::try_from(step * 7 % 100).unwrap_or(0);
        let mut block = [0_u8; BLOCK];
        for word in block
            .chunks_exact_mut(8)
            .take(if self.compressible { 2 } else { BLOCK })
        {
            word.copy_from_slice(&random.any().to_le_bytes());
        }
        let mut payload = Vec::with_capacity(bytes + BLOCK);
        for number in 0..bytes.div_ceil(BLOCK) {
            // No block may stand in for another.
            block[..8].copy_from_slice(&(number as u64 ^ self.seed ^ (step << 20)).to_le_bytes());
            payload.extend_from_slice(&block);
        }
        payload.truncate(bytes);
        payload
    }

    /// The payload as the state that is saved.
    pub fn state<'a>(&self, payload: &'a [u8]) -> State<'a> {
        if self.buffers == 0 {
            return State::bytes(payload);
        }
        let length = payload.len().div_ceil(self.buffers).max(1);
        let parts = payload.chunks(length).enumerate();
        parts.fold(State::new(), |state, (number, part)| {
            state.with_buffer(format!("part-{number}"), Element::U8, &[part.len()], part)
        })
    }

    /// What is wrong with a checkpoint that says it is of this plan: every byte is compared with what its step must have.
    pub fn complaint(&self, name: &str, checkpoint: &Checkpoint) -> Option<String> {
        let Some(step) = checkpoint.metadata().details.step else {
            return Some("it names no step".to_owned());
        };
        let expected = self.payload(name, step);
        let mut found = checkpoint.bytes().unwrap_or_default().to_vec();
        for info in checkpoint.buffers() {
            found.extend_from_slice(checkpoint.buffer(&info.name).unwrap_or_default());
        }
        (found != expected).then(|| {
            format!(
                "generation {} does not hold what step {step} is",
                checkpoint.generation()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_there_and_back() {
        let plan = Plan {
            how: How::Background,
            names: vec!["a".into(), "b".into()],
            seed: 9,
            bytes: 10,
            buffers: 3,
            compressible: true,
            steps: 4,
            keep: 5,
            workers: 1,
            prompted: true,
        };
        let arguments: Vec<String> = plan
            .arguments()
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect();
        assert_eq!(Plan::parse(&arguments), Ok(plan));
        assert!(Plan::parse(&["--seed".into()]).is_err());
        assert!(Plan::parse(&["--seeds".into(), "1".into()]).is_err());
    }

    #[test]
    fn no_two_steps_are_alike() {
        let plan = Plan::default();
        assert_ne!(plan.payload("model", 1), plan.payload("model", 2));
        assert_eq!(plan.payload("model", 1), plan.payload("model", 1));
    }
}

//! What may cross threads: inferred by the compiler, promised all the same, and lost by a private field that somebody adds.

use std::marker::PhantomData;

use safepoint::Shutdown;
use safepoint::shutdown::{
    Amount, Budget, Builder, Drain, OwnedUnit, Share, ShutdownToken, StopReport, Stopping,
    TimeLimit, Tracked, TrackedGuard, Tracker, Unit,
};

fn is_sent<T: Send + Unpin + 'static>() {}

fn is_shared<T: Send + Sync + Unpin + 'static>() {}

#[test]
fn what_must_cross_threads_can() {
    is_shared::<Shutdown>();
    is_shared::<ShutdownToken>();
    is_shared::<Stopping>();
    is_shared::<Tracker>();
    is_shared::<TimeLimit>();
    is_shared::<Budget>();
    is_shared::<Amount>();
    is_shared::<Share>();
    is_shared::<StopReport>();
    is_shared::<Drain<Vec<u8>>>();
    is_sent::<Builder>();
    is_sent::<OwnedUnit>();
    is_sent::<TrackedGuard>();
    is_sent::<Tracked<std::future::Ready<()>>>();
    let shutdown = Shutdown::builder().build().expect("built");
    let finishing: Box<dyn Future<Output = StopReport> + Send> = Box::new(shutdown.finish_async());
    drop(finishing);
}

/// The unit's bit and counters are written without synchronization: by one thread only.
#[test]
fn a_unit_stays_on_its_thread() {
    trait Stays<Marker> {
        fn stays() {}
    }
    impl<T: ?Sized> Stays<()> for PhantomData<T> {}
    struct Crosses;
    impl<T: ?Sized + Send> Stays<Crosses> for PhantomData<T> {}
    // There is one such function, or the compiler could not infer which is meant.
    <PhantomData<Unit<'static>> as Stays<_>>::stays();
}

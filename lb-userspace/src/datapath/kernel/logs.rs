//! What the program says by aya-log, passed on to our log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::Log;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Handle,
    task::JoinHandle,
};

/// The task that reads the program's ring buffer, ended with its owner.
pub(super) struct Logs(JoinHandle<()>);

impl Logs {
    /// Starts to read, where there is a runtime to read in and a program that speaks.
    pub(super) fn follow(object: &mut Ebpf) -> Option<Self> {
        let logger = match EbpfLogger::init(object) {
            Ok(logger) => logger,
            Err(error) => {
                log::debug!("the program says nothing: {error}");
                return None;
            }
        };
        let Ok(runtime) = Handle::try_current() else {
            log::debug!("the program's log is not read: there is no runtime");
            return None;
        };
        // SAFETY: the logger owns its descriptor, and the `AsyncFd` owns the logger and never gives it away.
        let logger = match unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) } {
            Ok(logger) => logger,
            Err(error) => {
                log::warn!("cannot read the program's log: {error}");
                return None;
            }
        };
        Some(Self(runtime.spawn(read(logger))))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read(mut logger: AsyncFd<EbpfLogger<&'static dyn Log>>) {
    loop {
        match logger.readable_mut().await {
            Ok(mut ready) => {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
            Err(error) => {
                log::warn!("cannot read the program's log any more: {error}");
                return;
            }
        }
    }
}

//! Files that an operator changes while understudy runs: looked at once a second, read again when they have changed.
//!
//! What cannot be read any more, or is wrong, changes nothing: what was read before still holds, and that is said until
//! it is mended.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// A file that changed so shortly before it was read may change once more within the clock's grain.
const SETTLED: Duration = Duration::from_secs(2);

/// A look that takes longer hangs, at a file system that does not answer: that is wrong, too.
const HANGS: Duration = Duration::from_secs(5);

/// That a file is wrong is said again after so long.
const REMINDER: Duration = Duration::from_secs(600);

/// What a file is known by: when it was written, how long it is, and which one it is.
type Stamp = (i64, i64, u64, u64);

/// Reads files again whenever one of them has changed, until told to end. `take` has what they say, or nothing where
/// they were wrong, which is said here; `what` names them.
pub(super) async fn keep<T: Send + 'static>(
    (what, files): (&'static str, Vec<PathBuf>),
    read: impl Fn() -> Result<T, String> + Clone + Send + 'static,
    take: impl Fn(Option<T>),
    stop: CancellationToken,
) {
    let mut watched = Watched::new(files.clone());
    // One that hangs, and goes on by itself: there is never a second one.
    let mut under_way: Option<JoinHandle<Looked<T>>> = None;
    let mut wrong: Option<String> = None;
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        // Where one hung, and where one broke off, all is due at the next.
        let looks = std::mem::replace(&mut watched, Watched::new(files.clone()));
        let hung = under_way.is_some();
        let mut looking = under_way.take().unwrap_or_else(|| {
            let read = read.clone();
            tokio::task::spawn_blocking(move || looks.look(read))
        });
        let looked = tokio::select! {
            looked = tokio::time::timeout(HANGS, &mut looking) => looked,
            () = stop.cancelled() => return,
        };
        let found = match looked {
            Ok(Ok((back, found))) => {
                if !hung {
                    watched = back;
                }
                found
            }
            Ok(Err(broken)) => Some(Err(format!("looking at it broke off: {broken}"))),
            Err(_) => {
                under_way = Some(looking);
                let seconds = HANGS.as_secs();
                Some(Err(format!(
                    "its file system has not answered for more than {seconds} s"
                )))
            }
        };
        match found {
            None => {}
            Some(Ok(good)) => {
                (wrong, said) = (None, None);
                take(Some(good));
            }
            Some(Err(why)) => {
                said = said.filter(|_| wrong.as_ref() == Some(&why));
                wrong = Some(why);
                take(None);
            }
        }
        if let Some(why) = &wrong
            && said.is_none_or(|at| at.elapsed() >= REMINDER)
        {
            said = Some(Instant::now());
            tracing::error!(
                "{what} was not taken over, and what it said before still holds: {why}"
            );
        }
    }
}

/// The files as they were looked at, and what they say where they were read.
type Looked<T> = (Watched, Option<Result<T, String>>);

/// Files, and how each was when it was read last.
#[derive(Debug)]
struct Watched {
    files: Vec<PathBuf>,
    /// Nothing of a file that could not be seen.
    read: Option<Vec<Option<Stamp>>>,
    settled: bool,
}

impl Watched {
    /// Such as are due at the first look.
    const fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            read: None,
            settled: false,
        }
    }

    /// Reads them where they are due: not for a runtime's thread.
    fn look<T>(mut self, read: impl FnOnce() -> Result<T, String>) -> Looked<T> {
        let found = self.are_due().then(read);
        (self, found)
    }

    /// Whether they are to be read: one has changed since the last time that this was so, or may have. Asks the file
    /// system: not for a runtime's thread.
    fn are_due(&mut self) -> bool {
        let now = SystemTime::now();
        let mut settled = true;
        let stamps = self.files.iter().map(|path| {
            let file = std::fs::metadata(path).ok()?;
            // A clock that was put back settles nothing; then it is read each time.
            let age = file.modified().ok().map(|at| now.duration_since(at));
            settled &= age.is_none_or(|age| age.is_ok_and(|age| age >= SETTLED));
            Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
        });
        let stamps: Option<Vec<_>> = Some(stamps.collect());
        let due = self.read != stamps || !self.settled;
        (self.read, self.settled) = (stamps, settled);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn written(path: &Path, text: &str, ago: Duration) {
        std::fs::write(path, text).unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_is_not_taken_and_what_is_mended_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        std::fs::write(&path, "none").unwrap();
        let file = path.clone();
        let read = move || {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            text.parse::<u32>().map_err(|error| error.to_string())
        };
        let taken = std::cell::RefCell::new(Vec::new());
        let stop = CancellationToken::new();
        let take = |found: Option<u32>| {
            let mut taken = taken.borrow_mut();
            if taken.last() != Some(&found) {
                taken.push(found);
                // The first is wrong, the second right, and then there is none.
                match taken.len() {
                    1 => std::fs::write(&path, "42").unwrap(),
                    2 => std::fs::remove_file(&path).unwrap(),
                    _ => stop.cancel(),
                }
            }
        };
        keep(("a number", vec![path.clone()]), read, take, stop.clone()).await;
        assert_eq!(*taken.borrow(), [None, Some(42), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_wrong_and_there_is_no_second_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        std::fs::write(&path, "42").unwrap();
        let (answers, answer) = std::sync::mpsc::sync_channel::<u32>(1);
        let answer = std::sync::Arc::new(parking_lot::Mutex::new(answer));
        let looks = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = std::sync::Arc::clone(&looks);
        let count = || looks.load(std::sync::atomic::Ordering::SeqCst);
        let read = move || {
            let before = counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let hangs = || answer.lock().recv().map_err(|error| error.to_string());
            if before == 0 { hangs() } else { Ok(42) }
        };
        let taken = std::cell::RefCell::new(Vec::new());
        let stop = CancellationToken::new();
        let take = |found: Option<u32>| taken.borrow_mut().push(found);
        let files = ("a number", vec![path]);
        let keeps = keep(files, read, take, stop.clone());
        let steers = async {
            // A thread that hangs keeps the paused clock from going on by itself.
            let until = async |what: &dyn Fn(&[Option<u32>]) -> bool| {
                while !what(&taken.borrow()) {
                    tokio::time::advance(Duration::from_millis(500)).await;
                    tokio::task::yield_now().await;
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            until(&|taken| taken.len() >= 3).await;
            assert!(taken.borrow().iter().all(Option::is_none));
            assert_eq!(count(), 1, "one look hangs");
            answers.send(41).unwrap();
            // What it saw may be long past: it is read once more.
            until(&|taken| taken.last() == Some(&Some(42))).await;
            assert_eq!(count(), 2);
            stop.cancel();
        };
        tokio::join!(keeps, steers);
    }

    #[test]
    fn a_file_is_due_once_for_each_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut watched = Watched::new(vec![path.clone()]);
        assert!(watched.are_due() && !watched.are_due(), "there is none");
        written(&path, "one", Duration::from_secs(60));
        assert!(watched.are_due() && !watched.are_due());
        written(&path, "two", Duration::from_secs(50));
        assert!(watched.are_due() && !watched.are_due());
        // Another file of the same length and time.
        let other = dir.path().join("other");
        let at = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&other, "six").unwrap();
        let file = std::fs::File::options().write(true).open(&other).unwrap();
        file.set_modified(at).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(watched.are_due() && !watched.are_due());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.are_due() && !watched.are_due());
    }

    #[test]
    fn what_was_written_a_moment_ago_is_read_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        written(&path, "one", Duration::ZERO);
        let mut watched = Watched::new(vec![path.clone()]);
        assert!(watched.are_due() && watched.are_due());
    }
}

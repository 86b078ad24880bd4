//! All the ways in which people and programs change a file.

use std::{fs, io::Write as _, os::unix::fs::symlink};

use tempfile::TempDir;

use super::*;

/// A file that is followed.
struct Followed {
    directory: TempDir,
    events: mpsc::Receiver<Event>,
}

impl Followed {
    /// Follows `name` in a directory that `prepare` has filled.
    async fn new(name: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let path = directory.path().join(name);
        let (send, events) = mpsc::channel(16);
        let read = fs::read(&path).ok();
        tokio::spawn(follow(path, read, send));
        // The watch is made when the task first runs.
        time::sleep(Duration::from_millis(50)).await;
        Self { directory, events }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn sees_one_change(&mut self) {
        let event = time::timeout(Duration::from_secs(5), self.events.recv()).await.expect("the change is not seen");
        assert!(matches!(event, Some(Event::FileChanged)));
        self.sees_nothing().await;
    }

    async fn sees_nothing(&mut self) {
        let event = time::timeout(QUIET * 3, self.events.recv()).await;
        assert!(event.is_err(), "one change more than there was");
    }
}

fn plain(directory: &Path) {
    fs::write(directory.join("f.yaml"), "one").unwrap();
}

#[tokio::test]
async fn changed_between_the_first_reading_and_the_first_watch() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let (send, events) = mpsc::channel(16);
    let path = directory.path().join("f.yaml");
    let read = fs::read(&path).ok();
    fs::write(&path, "two").unwrap();
    tokio::spawn(follow(path, read, send));
    Followed { directory, events }.sees_one_change().await;
}

#[tokio::test]
async fn written_in_place_slowly() {
    let mut followed = Followed::new("f.yaml", plain).await;
    let mut file = fs::File::create(followed.path("f.yaml")).unwrap();
    for part in ["t", "w", "o"] {
        file.write_all(part.as_bytes()).unwrap();
        time::sleep(QUIET / 2).await;
    }
    drop(file);
    followed.sees_one_change().await;
}

#[tokio::test]
async fn replaced_by_rename_again_and_again() {
    let mut followed = Followed::new("f.yaml", plain).await;
    for text in ["two", "three"] {
        fs::write(followed.path("new"), text).unwrap();
        fs::rename(followed.path("new"), followed.path("f.yaml")).unwrap();
        followed.sees_one_change().await;
    }
}

#[tokio::test]
async fn deleted_and_made_again() {
    let mut followed = Followed::new("f.yaml", plain).await;
    fs::remove_file(followed.path("f.yaml")).unwrap();
    followed.sees_one_change().await;
    fs::write(followed.path("f.yaml"), "two").unwrap();
    followed.sees_one_change().await;
}

#[tokio::test]
async fn swapped_as_kubernetes_swaps_config_maps() {
    let make = |directory: &Path, name: &str, text: &str| {
        fs::create_dir(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("f.yaml"), text).unwrap();
        symlink(name, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    let mut followed = Followed::new("f.yaml", |directory| {
        make(directory, "..2026_01", "one");
        symlink("..data/f.yaml", directory.join("f.yaml")).unwrap();
    })
    .await;
    for (old, new, text) in [("..2026_01", "..2026_02", "two"), ("..2026_02", "..2026_03", "three")] {
        make(followed.directory.path(), new, text);
        fs::remove_dir_all(followed.path(old)).unwrap();
        followed.sees_one_change().await;
    }
    // Kubernetes writes all anew although only another key of the map changed.
    make(followed.directory.path(), "..2026_04", "three");
    followed.sees_nothing().await;
}

#[tokio::test]
async fn reached_by_a_symlink_to_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("real"), "one").unwrap();
    let target = elsewhere.path().join("real");
    let mut followed = Followed::new("f.yaml", |directory| symlink(&target, directory.join("f.yaml")).unwrap()).await;
    fs::write(&target, "two").unwrap();
    followed.sees_one_change().await;
    fs::write(elsewhere.path().join("other"), "three").unwrap();
    fs::remove_file(followed.path("f.yaml")).unwrap();
    symlink(elsewhere.path().join("other"), followed.path("f.yaml")).unwrap();
    followed.sees_one_change().await;
    fs::write(elsewhere.path().join("other"), "four").unwrap();
    followed.sees_one_change().await;
}

#[tokio::test]
async fn in_a_directory_that_is_replaced() {
    let mut followed = Followed::new("etc/f.yaml", |directory| {
        fs::create_dir(directory.join("etc")).unwrap();
        fs::write(directory.join("etc/f.yaml"), "one").unwrap();
    })
    .await;
    for (number, text) in ["two", "three"].iter().enumerate() {
        fs::create_dir(followed.path("new")).unwrap();
        fs::write(followed.path("new/f.yaml"), text).unwrap();
        fs::rename(followed.path("etc"), followed.path(&format!("old{number}"))).unwrap();
        fs::rename(followed.path("new"), followed.path("etc")).unwrap();
        followed.sees_one_change().await;
    }
    fs::write(followed.path("etc/f.yaml"), "four").unwrap();
    followed.sees_one_change().await;
}

#[tokio::test]
async fn what_is_no_change_of_the_file_is_not_seen() {
    let mut followed = Followed::new("f.yaml", plain).await;
    fs::write(followed.path("other"), "x").unwrap();
    fs::write(followed.path("f.yaml"), "one").unwrap();
    fs::read(followed.path("f.yaml")).unwrap();
    followed.sees_nothing().await;
}

#[tokio::test]
async fn a_burst_that_does_not_end_is_applied_after_a_second() {
    let mut followed = Followed::new("f.yaml", plain).await;
    let path = followed.path("f.yaml");
    let writer = tokio::spawn(async move {
        for number in 0..100 {
            fs::write(&path, number.to_string()).unwrap();
            time::sleep(QUIET / 5).await;
        }
    });
    let start = Instant::now();
    followed.events.recv().await.unwrap();
    let first = start.elapsed();
    assert!(first >= LONGEST && first < LONGEST + QUIET * 5, "{first:?}");
    writer.await.unwrap();
}

#[tokio::test]
async fn among_so_many_other_files_that_hints_are_lost() {
    let directory = tempfile::tempdir().unwrap();
    plain(directory.path());
    let (send, mut hints) = mpsc::channel(1);
    let watch = Watch::new(&directory.path().join("f.yaml"), send);
    for name in ["noise", "noise", "f.yaml"] {
        fs::write(directory.path().join(name), "two").unwrap();
        time::sleep(Duration::from_millis(50)).await;
    }
    let first = hints.recv().await.unwrap();
    assert!(first.iter().all(|path| path.ends_with("noise")), "{first:?}");
    assert!(watch.concerns(&first), "the hint of the file is lost");
    assert!(!watch.concerns(&first), "it is told once");
}

#[tokio::test]
async fn replaced_by_a_pipe_that_nobody_writes() {
    let mut followed = Followed::new("f.yaml", plain).await;
    fs::remove_file(followed.path("f.yaml")).unwrap();
    nix::unistd::mkfifo(&followed.path("f.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    followed.sees_one_change().await;
    let faults = config::load(&followed.path("f.yaml")).unwrap_err().to_string();
    assert!(faults.contains("no regular file"), "{faults}");
}

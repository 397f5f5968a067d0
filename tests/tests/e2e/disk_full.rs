//! A disk that fills up while the gateway runs.
//!
//! Goal: sends are refused with an error that may be retried, nothing acknowledged is lost, reading goes on,
//! and the service resumes by itself when there is space again. Mechanics: a small tmpfs of the test's own,
//! filled by another file. Skipped, with a word, where it can't be mounted. Without it a full disk could end
//! in acknowledged messages that were never written.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};

use protocol::ErrorCode;
use tempfile::TempDir;
use tests::{Builder, Client, Gateway, Refusal, eventually, skip, text_body, unique_id};

const MIB: usize = 1 << 20;

/// A file system of our own, unmounted when dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        if tests::has_no_embedded_store() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { folder });
        }
        skip("a tmpfs can't be mounted here, so no disk can be filled");
        None
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A gateway on this disk that refuses sends below 8 MiB of free space.
    fn gateway(&self) -> Builder {
        Gateway::builder().data(&self.data()).flag("store-disk-reserve-bytes", 8 * MIB)
    }

    /// Writes a file until `bytes` are written or nothing more fits.
    fn fill(&self, bytes: usize) -> Filler {
        let path = self.folder.path().join("filler");
        let mut file = File::create(&path).expect("there is some space");
        let page = [0x5a; 4096];
        let _ = (0..bytes / page.len()).try_for_each(|_| file.write_all(&page));
        Filler(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

struct Filler(PathBuf);

impl Filler {
    fn remove(self) {
        fs::remove_file(self.0).expect("our own file");
    }
}

/// Sends until one is refused; the sequences acknowledged before.
fn send_until_refused(anna: &mut Client) -> (Vec<u64>, ErrorCode) {
    let mut acked = Vec::new();
    loop {
        match anna.send_as("anna", &unique_id(), text_body(&"x".repeat(1000))) {
            Ok(reply) => acked.push(reply.seq),
            Err(Refusal::Failed { code, retry_after_ms }) => {
                assert!(retry_after_ms > 0, "with a hint when to try again");
                return (acked, code);
            }
            Err(closed) => panic!("{closed:?}"),
        }
    }
}

fn stored(client: &mut Client) -> Vec<u64> {
    client.conversation("anna").iter().map(|message| message.seq).collect()
}

#[test]
fn msg_04_below_the_reserve_sends_are_refused_for_now_and_resume_by_themselves() {
    let Some(disk) = SmallDisk::mount("size=64m") else { return };
    let gateway = disk.gateway().start();
    let mut anna = gateway.login("anna");
    let mut acked = vec![anna.send("anna", "before").seq];

    let filler = disk.fill(60 * MIB);
    let (more, code) = send_until_refused(&mut anna);
    acked.extend(more);
    assert!(code.is_retryable(), "{code:?}");
    assert_eq!(stored(&mut anna), acked, "reading goes on, and everything acknowledged is there");
    anna.ping();
    let refusal = gateway.connect("new user").try_login().expect_err("an account needs space too");
    assert!(refusal.code().is_some_and(ErrorCode::is_retryable), "{refusal:?}");
    gateway.login("anna");
    assert!(gateway.process().output().contains("disk full"), "operators are told");

    filler.remove();
    let id = unique_id();
    eventually("sends are taken again", || match anna.send_as("anna", &id, text_body("after")) {
        Ok(reply) => {
            acked.push(reply.seq);
            true
        }
        Err(_) => false,
    });
    assert_eq!(stored(&mut anna), acked);
    let gateway = gateway.restart();
    assert_eq!(stored(&mut gateway.login("anna")), acked);
}

#[test]
fn msg_04_a_disk_without_a_byte_left_loses_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount("size=24m") else { return };
    let gateway = disk.gateway().flag("store-disk-reserve-bytes", 0).start();
    let mut anna = gateway.login("anna");
    let mut acked = vec![anna.send("anna", "before").seq];
    let filler = disk.fill(1 << 30);
    let (more, code) = send_until_refused(&mut anna);
    acked.extend(more);
    assert!(code.is_retryable(), "{code:?}");
    // A journal that could not be written is not trusted again: nothing half-serves.
    let (status, output, builder) = gateway.ended();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("the store has failed and acknowledges nothing any more: disk full"), "{output}");
    filler.remove();
    builder.check_store();
    let gateway = builder.start();
    let found = stored(&mut gateway.login("anna"));
    assert!(found.starts_with(&acked), "acknowledged {acked:?}, found {found:?}");
    assert_eq!(gateway.login("anna").send("anna", "after").seq, found.len() as u64 + 1);
}

#[test]
fn a_start_on_a_full_disk_says_so() {
    let Some(disk) = SmallDisk::mount("size=1m") else { return };
    let _filler = disk.fill(2 * MIB);
    let output = disk.gateway().fails();
    assert!(output.contains("No space left") || output.contains("no space left"), "{output}");
    assert!(output.contains(&disk.data().display().to_string()), "{output}");
}

#[test]
fn a_start_with_a_used_folder_on_a_full_disk_says_so() {
    let Some(disk) = SmallDisk::mount("size=24m") else { return };
    let gateway = disk.gateway().start();
    gateway.login("anna").send("anna", "hello");
    let builder = gateway.stop().2;
    let filler = disk.fill(1 << 30);
    let output = builder.fails();
    let folder = disk.data().join("store").display().to_string();
    for expected in ["no space left for the data folder", &folder, "free some space, then start again"] {
        assert!(output.contains(expected), "should say {expected:?}: {output}");
    }
    filler.remove();
    let gateway = builder.start();
    assert_eq!(stored(&mut gateway.login("anna")), [1]);
}

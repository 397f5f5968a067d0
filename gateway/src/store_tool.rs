//! `gateway store …`: what operators do with a store that no gateway has open.

use std::{
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use backend::{
    domain::{deployment, inspect},
    env::{Clock, SeededRng, SystemClock},
    store::Store,
};

use crate::{
    config::{Config, StoreEngine},
    service,
};

/// Checks the store and prints one line for each problem; says whether there was none.
pub fn check(config: &Config) -> anyhow::Result<bool> {
    let store = open(config)?;
    let mut stdout = io::stdout().lock();
    let mut printed = Ok(());
    let checked = inspect::check(&store, &mut |problem| {
        if printed.is_ok() {
            printed = writeln!(stdout, "problem: {problem}");
        }
    });
    store.shutdown();
    let checked = checked.context("the store can't be read to its end")?;
    printed?;
    write!(stdout, "checked {} keys: ", checked.keys)?;
    match checked.problems {
        0 => write!(stdout, "no problem")?,
        1 => write!(stdout, "1 problem")?,
        problems => write!(stdout, "{problems} problems")?,
    }
    match checked.unknown {
        0 => writeln!(stdout)?,
        unknown => writeln!(stdout, "; {unknown} of a newer program's kinds were not looked into")?,
    }
    Ok(checked.problems == 0)
}

/// Prints what the store has, by application, and what it takes on the disk.
pub fn stats(config: &Config) -> anyhow::Result<()> {
    let store = open(config)?;
    let stats = inspect::stats(&store);
    store.shutdown();
    let stats = stats.context("the store can't be read to its end")?;
    let mut stdout = io::stdout().lock();
    for (app, application) in &stats.applications {
        match app {
            0 => writeln!(stdout, "deployment")?,
            app => writeln!(stdout, "application {app}")?,
        }
        for (name, keys, bytes) in application.subspaces.values() {
            writeln!(stdout, "  {name:<20} {keys:>12} {bytes:>15} bytes")?;
        }
        let keys: u64 = application.subspaces.values().map(|(_, keys, _)| keys).sum();
        writeln!(stdout, "  {:<20} {keys:>12} {:>15} bytes", "in all", application.bytes())?;
    }
    if stats.foreign_keys > 0 {
        writeln!(stdout, "{} keys that no gateway has written", stats.foreign_keys)?;
    }
    if let StoreEngine::Embedded = config.store_engine {
        let folder = service::embedded_folder(config);
        writeln!(stdout, "on disk: {} bytes in {}", disk_bytes(&folder)?, folder.display())?;
    }
    Ok(())
}

/// Tells the store, put back from a copy, from what it was: devices that have seen more start over.
pub fn restored(config: &Config) -> anyhow::Result<()> {
    let store = open(config)?;
    let rng = SeededRng::new(service::store_seed()?);
    let renamed = futures::executor::block_on(deployment::rename_store(&store, &rng));
    store.shutdown();
    renamed.context("the store can't be written to")?;
    writeln!(io::stdout(), "devices will read anew what the store has")?;
    Ok(())
}

/// Opens a store that is there.
pub fn open(config: &Config) -> anyhow::Result<Store> {
    if let StoreEngine::Embedded = config.store_engine {
        let folder = service::embedded_folder(config);
        // Opening would make one.
        anyhow::ensure!(folder.join("FORMAT").exists(), "there is no store in {}", folder.display());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    // A disk that is nearly full is a reason to look.
    service::open_store(&Config { disk_reserve_bytes: 0, ..config.clone() }, &clock)
}

/// What the folder's files take: blocks, not lengths, which count space that was only reserved.
fn disk_bytes(folder: &Path) -> io::Result<u64> {
    const BLOCK_BYTES: u64 = 512;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * BLOCK_BYTES };
    }
    Ok(bytes)
}

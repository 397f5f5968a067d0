//! Compiles the files in `proto` with protox, so that no protoc is needed.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).open_files(["im.proto", "link.proto"])?;
    // For the tests, which read messages by their descriptors; the crate itself does not look at it.
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("im.descriptors"), compiler.encode_file_descriptor_set())?;
    // Ordered maps: the same message is always the same bytes.
    prost_build::Config::new().bytes(["."]).btree_map(["."]).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

//! With the feature `fdb`: finds `libfdb_c` where `FDB_CLIENT_LIB_PATH` (a folder or the file) says,
//! so that the gateway finds it when it runs. Without the variable the linker looks in its usual places.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FDB_CLIENT_LIB_PATH");
    let (Some(_), Some(path)) = (std::env::var_os("CARGO_FEATURE_FDB"), std::env::var_os("FDB_CLIENT_LIB_PATH")) else {
        return;
    };
    let mut folder = PathBuf::from(path);
    if folder.is_file() {
        folder.pop();
    }
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", folder.display());
}

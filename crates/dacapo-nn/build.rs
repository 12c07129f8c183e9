//! Where programs and tests find libtorch, if they are built with it (docs/gpu.md). Without the feature `torch` nothing is
//! done. The command is built by the same script.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let (Some(_), Some(libtorch)) = (env::var_os("CARGO_FEATURE_TORCH"), env::var_os("LIBTORCH")) else {
        return;
    };
    let libraries = Path::new(&libtorch).join("lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    // Nothing refers to its functions: it makes itself known when it is loaded, and linkers would drop it.
    if libraries.join("libtorch_cuda.so").exists() {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed,-ltorch_cuda,--as-needed");
    }
}

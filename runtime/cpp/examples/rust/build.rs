//! Makes the interface of ldm_runtime.h with bindgen, and links the library that is installed at LDM_PREFIX.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo:rerun-if-env-changed=LDM_PREFIX");
    let prefix = PathBuf::from(env::var("LDM_PREFIX").expect("set LDM_PREFIX to where the library is installed"));
    let header = prefix.join("include/ldm_runtime.h");
    let bindings = PathBuf::from(env::var("OUT_DIR").unwrap()).join("ldm_runtime.rs");
    let made = Command::new("bindgen")
        .args([
            "--allowlist-function",
            "ldm_.*",
            "--allowlist-var",
            "LDM_.*",
            "--no-layout-tests",
            "--output",
        ])
        .arg(&bindings)
        .arg(&header)
        .status()
        .expect("install bindgen: cargo install bindgen-cli, or your system's package");
    assert!(made.success(), "bindgen cannot read {}", header.display());
    println!("cargo:rerun-if-changed={}", header.display());
    println!("cargo:rustc-link-search=native={}", prefix.join("lib").display());
    println!("cargo:rustc-link-lib=dylib=ldm_runtime");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", prefix.join("lib").display());
}

//! Draws an image: txt2img PACKAGE PROMPT OUT.png [SEED]

#[allow(dead_code, non_camel_case_types, non_snake_case, non_upper_case_globals)]
mod ffi {
    include!(concat!(env!("OUT_DIR"), "/ldm_runtime.rs"));
}

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::{env, mem, process::ExitCode, ptr};

/// What a handle of C is freed with.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        unsafe { (self.1)(self.0) }
    }
}

/// The sentence and the code of a call that failed.
fn check(context: &Owned<ffi::ldm_context>, status: ffi::ldm_status) -> Result<(), String> {
    if status == ffi::ldm_status_LDM_OK {
        return Ok(());
    }
    let read = |text: *const c_char| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    let (code, text) = unsafe { (ffi::ldm_error_code(context.0), ffi::ldm_error_text(context.0)) };
    Err(format!("{}: {}", read(code), read(text)))
}

unsafe extern "C" fn show(_: *mut c_void, _: *mut ffi::ldm_run, at: *const ffi::ldm_progress) -> c_int {
    eprintln!("step {} of {}", (*at).step, (*at).steps);
    0
}

fn draw(package: &CStr, prompt: &CStr, out: &CStr, seed: u64) -> Result<(), String> {
    unsafe {
        let mut options: ffi::ldm_context_options = mem::zeroed();
        ffi::ldm_context_options_init(&mut options, mem::size_of_val(&options) as _);
        options.progress = Some(show);
        let mut context = Owned(ptr::null_mut(), ffi::ldm_context_free);
        if ffi::ldm_context_create(&options, &mut context.0) != ffi::ldm_status_LDM_OK {
            return Err("no memory is left".into());
        }
        let mut opened = Owned(ptr::null_mut(), ffi::ldm_package_free);
        check(
            &context,
            ffi::ldm_package_open(context.0, package.as_ptr(), ptr::null(), &mut opened.0),
        )?;
        let mut engine = Owned(ptr::null_mut(), ffi::ldm_engine_free);
        check(
            &context,
            ffi::ldm_engine_open(context.0, opened.0, ptr::null(), &mut engine.0),
        )?;
        let mut wanted: ffi::ldm_run_options = mem::zeroed();
        ffi::ldm_run_options_init(&mut wanted, mem::size_of_val(&wanted) as _);
        wanted.prompt = prompt.as_ptr();
        wanted.seed = seed;
        wanted.has_seed = 1;
        let mut run = Owned(ptr::null_mut(), ffi::ldm_run_free);
        check(&context, ffi::ldm_run_create(context.0, opened.0, &wanted, &mut run.0))?;
        check(&context, ffi::ldm_engine_draw(context.0, engine.0, run.0))?;
        check(&context, ffi::ldm_run_save_png(context.0, run.0, 0, out.as_ptr(), 1))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<CString> = env::args().skip(1).filter_map(|each| CString::new(each).ok()).collect();
    let seed = arguments
        .get(3)
        .map_or(Some(1), |text| text.to_str().ok()?.parse().ok());
    let (3..=4, Some(seed)) = (arguments.len(), seed) else {
        eprintln!("usage: txt2img PACKAGE PROMPT OUT.png [SEED]");
        return ExitCode::from(2);
    };
    match draw(&arguments[0], &arguments[1], &arguments[2], seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

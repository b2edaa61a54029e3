//! The first process of every jail. It starts the program, takes in orphans so that none stays a
//! zombie, tells the server how the program ended, and ends; the kernel then kills whatever is left
//! in its process namespace (pid_namespaces(7)).
//!
//! Freestanding and static, so that it runs in any root file system: no libc, no allocation, no
//! panic. Built by `build.rs`, embedded in the server.
//!
//! `init PROGRAM ARGUMENT…` finds open: 3 the status pipe, 4 5 6 what becomes the program's standard
//! input, output and error. Written to the status pipe, five bytes each, a letter and a number of
//! 32 bits in the machine's byte order:
//!
//! - `S 0` the program is about to start,
//! - `X errno` it could not be started,
//! - `E status` it ended, with the status of wait(2).
//!
//! Nobody else can write there: the descriptor is closed before the program runs, and being not
//! dumpable this process lets nobody in through `/proc/1`. When the server is gone the pipe has no
//! reader, and everything ends.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ptr::null;

const STATUS: usize = 3;
const STANDARD: [usize; 3] = [4, 5, 6];

const SIGCHLD: usize = 17;
const SIGCHLD_SET: u64 = 1 << (SIGCHLD - 1);
const SIG_SETMASK: usize = 2;
const FD_CLOEXEC: usize = 1;
const F_SETFD: usize = 2;
const PR_SET_PDEATHSIG: usize = 1;
const PR_SET_DUMPABLE: usize = 4;
const SFD_NONBLOCK_CLOEXEC: usize = 0o2004000;
const POLLIN: i16 = 1;
const POLLERR: i16 = 8;
const WNOHANG: usize = 1;
const ENOENT: isize = 2;
const EACCES: isize = 13;
const ENOTDIR: isize = 20;
const PATH_MOST: usize = 4096;

#[cfg(target_arch = "x86_64")]
mod machine {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const SIGPROCMASK: usize = 14;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const FCNTL: usize = 72;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
}

#[cfg(target_arch = "aarch64")]
mod machine {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const SIGPROCMASK: usize = 135;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const FCNTL: usize = 25;
    pub const PRCTL: usize = 167;
    pub const EXIT_GROUP: usize = 94;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const DUP3: usize = 24;
}

use machine::*;

// The kernel enters with the stack pointer at argc (System V ABI, "Process Initialization").
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}", sym start);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {}", sym start);

#[cfg(target_arch = "x86_64")]
fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: a system call clobbers rcx and r11 only; what its pointers point at is the caller's care.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: a system call changes x0 only; what its pointers point at is the caller's care.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3],
            in("x4") arguments[4], options(nostack));
    }
    result
}

fn call1(number: usize, a: usize) -> isize {
    call(number, [a, 0, 0, 0, 0])
}

fn call3(number: usize, a: usize, b: usize, c: usize) -> isize {
    call(number, [a, b, c, 0, 0])
}

fn exit(code: usize) -> ! {
    loop {
        call1(EXIT_GROUP, code);
    }
}

fn tell(letter: u8, number: i32) {
    let value = number.to_ne_bytes();
    let message = [letter, value[0], value[1], value[2], value[3]];
    call3(WRITE, STATUS, message.as_ptr() as usize, message.len());
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc there, then argv and a null, then the environment and a null.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if count < 2 {
        exit(2);
    }
    // SAFETY: argv has `count` entries and a null.
    let environment = unsafe { arguments.add(count + 1) };
    let program = arguments.wrapping_add(1);

    // The kernel forgot the wish of nsjail when the user changed; the policy allows no other signal here.
    call(PRCTL, [PR_SET_PDEATHSIG, 9, 0, 0, 0]);
    call(PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0]);
    call3(FCNTL, STATUS, F_SETFD, FD_CLOEXEC);
    mask(SIGCHLD_SET);
    let signals = call(SIGNALFD4, [usize::MAX, (&raw const SIGCHLD_WORD) as usize, 8, SFD_NONBLOCK_CLOEXEC, 0]);
    if signals < 0 {
        exit(3);
    }

    tell(b'S', 0);
    match call(CLONE, [SIGCHLD, 0, 0, 0, 0]) {
        0 => become_program(program, environment),
        child if child > 0 => watch(child, signals as usize),
        error => {
            tell(b'X', -error as i32);
            exit(4)
        }
    }
}

static SIGCHLD_WORD: u64 = SIGCHLD_SET;

fn mask(set: u64) {
    call(SIGPROCMASK, [SIG_SETMASK, (&raw const set) as usize, 0, 8, 0]);
}

fn become_program(arguments: *const *const u8, environment: *const *const u8) -> ! {
    for (target, source) in STANDARD.into_iter().enumerate() {
        call3(DUP3, source, target, 0);
        call1(CLOSE, source);
    }
    mask(0);
    let error = execute(arguments, environment);
    tell(b'X', -error as i32);
    exit(127)
}

/// Tries the program as it is named if the name has a slash, else in each directory of `PATH`.
fn execute(arguments: *const *const u8, environment: *const *const u8) -> isize {
    // SAFETY: there is a first argument; strings from the kernel end in a zero byte.
    let name = unsafe { *arguments };
    if bytes(name).any(|byte| byte == b'/') {
        return call3(EXECVE, name as usize, arguments as usize, environment as usize);
    }
    let mut error = -ENOENT;
    let mut path = find_path(environment);
    let mut buffer = [0u8; PATH_MOST];
    loop {
        let mut length = 0;
        let mut more = false;
        for byte in bytes(path) {
            path = path.wrapping_add(1);
            if byte == b':' {
                more = true;
                break;
            }
            push(&mut buffer, &mut length, byte);
        }
        push(&mut buffer, &mut length, b'/');
        for byte in bytes(name) {
            push(&mut buffer, &mut length, byte);
        }
        push(&mut buffer, &mut length, 0);
        if length < PATH_MOST {
            match call3(EXECVE, buffer.as_ptr() as usize, arguments as usize, environment as usize) {
                missing if missing == -ENOENT || missing == -ENOTDIR => {}
                refused if refused == -EACCES => error = refused,
                other => return other,
            }
        }
        if !more {
            return error;
        }
    }
}

fn push(buffer: &mut [u8; PATH_MOST], length: &mut usize, byte: u8) {
    if let Some(place) = buffer.get_mut(*length) {
        *place = byte;
        *length += 1;
    }
}

fn find_path(mut environment: *const *const u8) -> *const u8 {
    loop {
        // SAFETY: the environment ends in a null, where this stops.
        let entry = unsafe { *environment };
        if entry == null() {
            return c"/usr/bin".as_ptr().cast();
        }
        if bytes(entry).take(5).eq(b"PATH=".iter().copied()) {
            return entry.wrapping_add(5);
        }
        environment = environment.wrapping_add(1);
    }
}

fn bytes(string: *const u8) -> impl Iterator<Item = u8> {
    let mut at = string;
    core::iter::from_fn(move || {
        // SAFETY: the string ends in a zero byte, past which this never goes.
        let byte = unsafe { *at };
        if byte == 0 {
            return None;
        }
        at = at.wrapping_add(1);
        Some(byte)
    })
}

#[repr(C)]
struct Poll {
    descriptor: i32,
    wanted: i16,
    seen: i16,
}

fn watch(child: isize, signals: usize) -> ! {
    for descriptor in [0, 1, 2].into_iter().chain(STANDARD) {
        call1(CLOSE, descriptor);
    }
    loop {
        reap(child);
        let mut polled = [
            Poll { descriptor: signals as i32, wanted: POLLIN, seen: 0 },
            Poll { descriptor: STATUS as i32, wanted: 0, seen: 0 },
        ];
        call(PPOLL, [polled.as_mut_ptr() as usize, polled.len(), 0, 0, 0]);
        if polled[1].seen & POLLERR != 0 {
            exit(5);
        }
        let mut information = [0u8; 128];
        call3(READ, signals, information.as_mut_ptr() as usize, information.len());
    }
}

fn reap(child: isize) {
    loop {
        let mut status = 0i32;
        let ended = call(WAIT4, [usize::MAX, (&raw mut status) as usize, WNOHANG, 0, 0]);
        if ended == child {
            tell(b'E', status);
            exit(0);
        }
        if ended <= 0 {
            return;
        }
    }
}

// Code for filling and copying arrays calls these by name; there is no libc that has them.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the caller promises `count` bytes. Volatile, or this would be made a call of itself.
        unsafe { target.add(index).write_volatile(byte as u8) };
    }
    target
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the caller promises `count` bytes in both. Volatile for the same reason.
        unsafe { target.add(index).write_volatile(source.add(index).read_volatile()) };
    }
    target
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(6)
}

//! The first process of every jail. It waits for its order, starts the program that the order names,
//! takes in orphans so that none stays a zombie, tells the server how the program ended, and ends; the
//! kernel then kills whatever is left in its process namespace (pid_namespaces(7)).
//!
//! Freestanding and static, so that it runs in any root file system: no libc, no allocation, no
//! panic. Built by `build.rs`, embedded in the server.
//!
//! It finds descriptor 3 open, one end of a pair of sockets of the kind SOCK_SEQPACKET. The order is one
//! message there: the length of a block, four bytes in the machine's byte order, with four descriptors:
//! the block, and what becomes the program's standard input, output and error. The block holds
//!
//! - how many arguments, environment variables and limits there are, and after how many seconds all
//!   this must be over though the server said nothing: four bytes each,
//! - the limits, number and value as in prlimit(2), eight bytes each,
//! - strings that end in a zero byte: the directory, the arguments, the environment.
//!
//! What it says is one message each, a letter and a number of 32 bits in the machine's byte order:
//!
//! - `R 0` it is ready for its order,
//! - `D errno` the directory could not be entered,
//! - `S 0` the program is about to start,
//! - `X errno` it could not be started,
//! - `E status` it ended, with the status of wait(2).
//!
//! Nobody else can speak there: the descriptor is closed before the program runs, and being not
//! dumpable this process lets nobody in through `/proc/1`. When the server is gone the other end is
//! closed, and everything ends.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ptr::null;

const SERVER: usize = 3;
/// Descriptors of an order.
const GIVEN: usize = 4;

const SIGCHLD: usize = 17;
const SIGCHLD_SET: u64 = 1 << (SIGCHLD - 1);
const SIG_SETMASK: usize = 2;
const FD_CLOEXEC: usize = 1;
const F_SETFD: usize = 2;
const PR_SET_PDEATHSIG: usize = 1;
const PR_SET_DUMPABLE: usize = 4;
const SFD_NONBLOCK_CLOEXEC: usize = 0o2004000;
const POLLIN: i16 = 1;
const POLLHUP: i16 = 16;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 32;
const CLOCK_MONOTONIC: usize = 1;
const TFD_NONBLOCK_CLOEXEC: usize = 0o2004000;
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
    pub const MMAP: usize = 9;
    pub const RECVMSG: usize = 47;
    pub const CHDIR: usize = 80;
    pub const TIMERFD_CREATE: usize = 283;
    pub const TIMERFD_SETTIME: usize = 286;
    pub const PRLIMIT64: usize = 302;
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
    pub const MMAP: usize = 222;
    pub const RECVMSG: usize = 212;
    pub const CHDIR: usize = 49;
    pub const TIMERFD_CREATE: usize = 85;
    pub const TIMERFD_SETTIME: usize = 86;
    pub const PRLIMIT64: usize = 261;
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
fn call(number: usize, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: a system call clobbers rcx and r11 only; what its pointers point at is the caller's care.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: a system call changes x0 only; what its pointers point at is the caller's care.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3],
            in("x4") arguments[4], in("x5") arguments[5], options(nostack));
    }
    result
}

fn call1(number: usize, a: usize) -> isize {
    call(number, [a, 0, 0, 0, 0, 0])
}

fn call3(number: usize, a: usize, b: usize, c: usize) -> isize {
    call(number, [a, b, c, 0, 0, 0])
}

fn exit(code: usize) -> ! {
    loop {
        call1(EXIT_GROUP, code);
    }
}

fn tell(letter: u8, number: i32) {
    let value = number.to_ne_bytes();
    let message = [letter, value[0], value[1], value[2], value[3]];
    call3(WRITE, SERVER, message.as_ptr() as usize, message.len());
}

extern "C" fn start(_stack: *const usize) -> ! {
    // The kernel forgot the wish of nsjail when the user changed; the policy allows no other signal here.
    call(PRCTL, [PR_SET_PDEATHSIG, 9, 0, 0, 0, 0]);
    call(PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0, 0]);
    call3(FCNTL, SERVER, F_SETFD, FD_CLOEXEC);
    mask(SIGCHLD_SET);
    let signals =
        call(SIGNALFD4, [usize::MAX, (&raw const SIGCHLD_WORD) as usize, 8, SFD_NONBLOCK_CLOEXEC, 0, 0]);
    if signals < 0 {
        exit(3);
    }
    tell(b'R', 0);
    let Some(order) = Order::receive() else { exit(5) };
    order.limit();
    let entered = call1(CHDIR, order.directory as usize);
    if entered < 0 {
        tell(b'D', -entered as i32);
        exit(4);
    }
    let timer = order.timer();

    tell(b'S', 0);
    match call(CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) {
        0 => become_program(&order),
        child if child > 0 => watch(child, signals as usize, timer, &order.standard),
        error => {
            tell(b'X', -error as i32);
            exit(4)
        }
    }
}

static SIGCHLD_WORD: u64 = SIGCHLD_SET;

fn mask(set: u64) {
    call(SIGPROCMASK, [SIG_SETMASK, (&raw const set) as usize, 0, 8, 0, 0]);
}

/// What is to be done.
struct Order {
    /// What becomes standard input, output and error.
    standard: [usize; 3],
    seconds: u32,
    /// Number and value of each limit.
    limits: *const [u64; 2],
    limit_count: usize,
    directory: *const u8,
    arguments: *const *const u8,
    environment: *const *const u8,
}

#[repr(C)]
struct Vector {
    base: *mut u8,
    length: usize,
}

#[repr(C)]
struct Message {
    name: *const u8,
    name_length: u32,
    vectors: *mut Vector,
    vector_count: usize,
    control: *mut u8,
    control_length: usize,
    flags: i32,
}

/// `struct cmsghdr` with the descriptors that follow it (cmsg(3)).
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; GIVEN],
}

#[repr(C)]
struct Head {
    arguments: u32,
    environment: u32,
    limits: u32,
    seconds: u32,
}

impl Order {
    /// Waits for it; `None` when there is nobody to give one, or it is none.
    fn receive() -> Option<Self> {
        let mut length = 0u32;
        let mut vector = Vector { base: (&raw mut length).cast(), length: size_of::<u32>() };
        let mut control = Control { length: 0, level: 0, kind: 0, descriptors: [-1; GIVEN] };
        let mut message = Message {
            name: null(),
            name_length: 0,
            vectors: &raw mut vector,
            vector_count: 1,
            control: (&raw mut control).cast(),
            control_length: size_of::<Control>(),
            flags: 0,
        };
        let got = call3(RECVMSG, SERVER, (&raw mut message) as usize, MSG_CMSG_CLOEXEC);
        // SAFETY: the kernel wrote there, behind the compiler's back.
        let (length, control) =
            unsafe { ((&raw const length).read_volatile(), (&raw const control).read_volatile()) };
        if got != size_of::<u32>() as isize || control.length != size_of::<Control>() {
            return None;
        }
        let [block, standard @ ..] = control.descriptors.map(|descriptor| descriptor as usize);
        let head = map(length as usize, PROT_READ, MAP_PRIVATE, block)?.cast::<Head>();
        call1(CLOSE, block);
        // SAFETY: the server wrote a head there, and all that it promises.
        let Head { arguments, environment, limits, seconds } = unsafe { head.read() };
        let limit_count = limits as usize;
        let limits = head.wrapping_add(1).cast::<[u64; 2]>();
        let directory: *const u8 = limits.wrapping_add(limit_count).cast();
        let (arguments, environment) = (arguments as usize, environment as usize);
        // Both lists end in a null, which the kernel's zeros are.
        let room = (arguments + environment + 2) * size_of::<*const u8>();
        let list = map(room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, usize::MAX)?;
        let list = list.cast_mut().cast::<*const u8>();
        let mut string = directory;
        for index in 0..arguments + environment {
            string = after(string);
            // SAFETY: within the room for all arguments, a null, all variables and a null.
            unsafe { list.add(index + usize::from(index >= arguments)).write(string) };
        }
        let variables = list.wrapping_add(arguments + 1);
        Some(Self {
            standard,
            seconds,
            limits,
            limit_count,
            directory,
            arguments: list,
            environment: variables,
        })
    }

    fn limit(&self) {
        for index in 0..self.limit_count {
            // SAFETY: the block has so many.
            let [number, value] = unsafe { *self.limits.add(index) };
            let bounds = [value, value];
            call(PRLIMIT64, [0, number as usize, (&raw const bounds) as usize, 0, 0, 0]);
        }
    }

    /// Readable when all must be over: a net below the server's own clock.
    fn timer(&self) -> usize {
        let timer = call3(TIMERFD_CREATE, CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC, 0);
        let once = [0u64, 0, u64::from(self.seconds), 0];
        if timer < 0 || call(TIMERFD_SETTIME, [timer as usize, 0, (&raw const once) as usize, 0, 0, 0]) < 0 {
            exit(3);
        }
        timer as usize
    }
}

fn map(length: usize, protection: usize, flags: usize, descriptor: usize) -> Option<*const u8> {
    let at = call(MMAP, [0, length, protection, flags, descriptor, 0]);
    (at > 0).then_some(at as *const u8)
}

/// Where the next string begins.
fn after(string: *const u8) -> *const u8 {
    string.wrapping_add(bytes(string).count() + 1)
}

fn become_program(order: &Order) -> ! {
    for (target, source) in order.standard.into_iter().enumerate() {
        call3(DUP3, source, target, 0);
    }
    mask(0);
    let error = execute(order.arguments, order.environment);
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

fn watch(child: isize, signals: usize, timer: usize, standard: &[usize; 3]) -> ! {
    for &descriptor in [0, 1, 2].iter().chain(standard) {
        call1(CLOSE, descriptor);
    }
    loop {
        reap(child);
        let mut polled = [
            Poll { descriptor: signals as i32, wanted: POLLIN, seen: 0 },
            Poll { descriptor: SERVER as i32, wanted: 0, seen: 0 },
            Poll { descriptor: timer as i32, wanted: POLLIN, seen: 0 },
        ];
        call(PPOLL, [polled.as_mut_ptr() as usize, polled.len(), 0, 0, 0, 0]);
        if polled[1].seen & POLLHUP != 0 || polled[2].seen != 0 {
            exit(5);
        }
        let mut information = [0u8; 128];
        call3(READ, signals, information.as_mut_ptr() as usize, information.len());
    }
}

fn reap(child: isize) {
    loop {
        let mut status = 0i32;
        let ended = call(WAIT4, [usize::MAX, (&raw mut status) as usize, WNOHANG, 0, 0, 0]);
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

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller promises a zero byte. Volatile for the same reason.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(6)
}

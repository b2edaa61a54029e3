//! The first process of a jail (`init/init.rs`), seen from the server: the socket between the two, the
//! order that it is given, and what it says.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials,
    recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::unistd::Pid;

use crate::descriptor;

/// The server's end of the socket.
#[derive(Debug)]
pub(crate) struct First {
    socket: OwnedFd,
}

/// What the first process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It waits for its order, and has this number on the machine.
    Ready(Pid),
    /// It could not enter the directory: an error number.
    NotEntered(i32),
    /// The program is about to start.
    Started,
    /// The program could not be started: an error number.
    NotStarted(i32),
    /// The program ended, with a status as in wait(2).
    Ended(i32),
}

/// What it shall do.
#[derive(Debug)]
pub(crate) struct Order {
    block: OwnedFd,
    length: u32,
    standard: [OwnedFd; 3],
}

/// The contents of an order.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub directory: &'a Path,
    pub command: &'a [String],
    /// The whole environment.
    pub env: &'a [(&'static str, &'static str)],
    pub more_env: &'a BTreeMap<String, String>,
    /// Number and value of each limit, as in prlimit(2).
    pub limits: &'a [(u32, u64)],
    /// After how many seconds it ends by itself.
    pub seconds: u32,
    /// What becomes standard input, output and error.
    pub standard: [OwnedFd; 3],
}

impl First {
    /// Its end and ours. Ours never blocks, and says who wrote.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok((Self { socket }, theirs))
    }

    /// The next thing that it said, if it said anything.
    pub(crate) fn hear(&self) -> Option<Said> {
        let mut message = [0; 5];
        let mut control = nix::cmsg_space!(UnixCredentials);
        let mut vectors = [IoSliceMut::new(&mut message)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let got = loop {
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut vectors, Some(&mut control), flags) {
                Err(Errno::EINTR) => {}
                got => break got.ok()?,
            }
        };
        let pid = got.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::ScmCredentials(who) => Some(Pid::from_raw(who.pid())),
            _ => None,
        });
        if got.bytes < message.len() {
            return None;
        }
        let [letter, number @ ..] = message;
        let number = i32::from_ne_bytes(number);
        match letter {
            b'R' => pid.map(Said::Ready),
            b'D' => Some(Said::NotEntered(number)),
            b'S' => Some(Said::Started),
            b'X' => Some(Said::NotStarted(number)),
            b'E' => Some(Said::Ended(number)),
            _ => {
                tracing::error!("the first process of a jail said {letter}");
                None
            }
        }
    }

    /// Waits until it says more. `true` when it never will: it is gone, or said nothing for so long.
    pub(crate) fn is_silent(&self, most: Duration) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut polled, timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return true,
                Ok(_) => return polled[0].revents().is_some_and(|now| now.contains(PollFlags::POLLHUP)),
            }
        }
    }

    /// Gives the order; it is read when the process is ready.
    pub(crate) fn give(&self, order: &Order) -> io::Result<()> {
        let length = order.length.to_ne_bytes();
        let mut descriptors: [RawFd; 4] = [order.block.as_raw_fd(); 4];
        for (place, descriptor) in descriptors.iter_mut().skip(1).zip(&order.standard) {
            *place = descriptor.as_raw_fd();
        }
        let control = [ControlMessage::ScmRights(&descriptors)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&length)], &control, flags, None)?;
        Ok(())
    }
}

impl AsFd for First {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Order {
    /// Writes it down.
    pub(crate) fn write(wish: Wish<'_>) -> io::Result<Self> {
        let env = wish.env.iter().copied();
        let env: Vec<(&str, &str)> =
            env.chain(wish.more_env.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
        let mut block = Vec::with_capacity(4096);
        let number = |count: usize| u32::try_from(count).map_err(io::Error::other);
        for count in
            [number(wish.command.len())?, number(env.len())?, number(wish.limits.len())?, wish.seconds]
        {
            block.extend(count.to_ne_bytes());
        }
        for &(limit, value) in wish.limits {
            block.extend(u64::from(limit).to_ne_bytes());
            block.extend(value.to_ne_bytes());
        }
        let directory = wish.directory.as_os_str().as_encoded_bytes();
        block.extend(CString::new(directory)?.as_bytes_with_nul());
        for argument in wish.command {
            block.extend(CString::new(argument.as_str())?.as_bytes_with_nul());
        }
        for (name, value) in env {
            block.extend(CString::new(format!("{name}={value}"))?.as_bytes_with_nul());
        }
        let length = number(block.len())?;
        Ok(Self { block: descriptor::constant(c"order", &block)?, length, standard: wish.standard })
    }
}

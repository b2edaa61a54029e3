/* Tries what a hostile program would, each in a process of its own, and prints what became of it:
   "name ok", "name ERRNO" or "name killed-SIGNAL". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void report(const char *name, int status) {
    if (WIFSIGNALED(status))
        printf("%s killed-%d\n", name, WTERMSIG(status));
    else if (WEXITSTATUS(status) == 0)
        printf("%s ok\n", name);
    else
        printf("%s %s\n", name, strerrorname_np(WEXITSTATUS(status)));
    fflush(stdout);
}

#define TRY(name, expression)                                     \
    do {                                                          \
        fflush(stdout);                                           \
        pid_t child = fork();                                     \
        if (child == 0) {                                         \
            errno = 0;                                            \
            long result = (long)(expression);                     \
            _exit(result == -1 ? errno : 0);                      \
        }                                                         \
        int status = 0;                                           \
        waitpid(child, &status, 0);                               \
        report(name, status);                                     \
    } while (0)

#define CALL(name, ...) TRY(#name, syscall(SYS_##name, __VA_ARGS__))
#define HIGH (1UL << 32)

#if defined(__x86_64__)
static long int80(long number) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number) : "memory", "r8", "r9", "r10", "r11");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}
#endif

static void calls(void) {
    char buffer[4096] = {0};
    CALL(unshare, 0x10000000 /* user */);
    CALL(unshare, 0x40000000 /* net */);
    TRY("clone-user", syscall(SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0));
    TRY("clone-net-high", syscall(SYS_clone, HIGH | 0x40000000 | SIGCHLD, 0, 0, 0, 0));
    CALL(clone3, buffer, 88);
    CALL(setns, 0, 0);
    CALL(mount, "none", "/tmp", "tmpfs", 0, 0);
    CALL(umount2, "/tmp", 2);
    CALL(chroot, "/tmp");
    CALL(pivot_root, ".", ".");
    CALL(open_tree, -100, "/", 1);
    CALL(move_mount, -1, "", -1, "", 0);
    CALL(fsopen, "tmpfs", 0);
    CALL(fsmount, -1, 0, 0);
    CALL(fspick, -100, "/", 0);
    CALL(mount_setattr, -100, "/", 0, buffer, 32);
    CALL(name_to_handle_at, -100, "/", buffer, buffer, 0);
    CALL(open_by_handle_at, -100, buffer, 0);
    CALL(ptrace, 16 /* attach */, 1, 0, 0);
    TRY("ptrace-traceme", syscall(SYS_ptrace, 0, 0, 0, 0));
    CALL(process_vm_readv, 1, buffer, 0, buffer, 0, 0);
    CALL(process_vm_writev, 1, buffer, 0, buffer, 0, 0);
    CALL(pidfd_getfd, 0, 0, 0);
    CALL(kcmp, 1, 1, 0, 0, 0);
    CALL(keyctl, 0, -3, 1);
    CALL(add_key, "user", "a", "b", 1, -3);
    CALL(request_key, "user", "a", 0, 0);
    CALL(bpf, 0, buffer, 64);
    CALL(perf_event_open, buffer, 0, -1, -1, 0);
    CALL(userfaultfd, 1);
    CALL(io_uring_setup, 1, buffer);
    CALL(io_uring_enter, 0, 0, 0, 0, 0, 0);
    CALL(io_uring_register, 0, 0, 0, 0);
    CALL(kexec_load, 0, 0, 0, 0);
    CALL(init_module, buffer, 0, "");
    CALL(finit_module, 0, "", 0);
    CALL(delete_module, "x", 0);
    CALL(reboot, 0, 0, 0, 0);
    CALL(swapon, "/tmp/x", 0);
    CALL(settimeofday, buffer, 0);
    CALL(clock_settime, 0, buffer);
    CALL(clock_adjtime, 0, buffer);
    CALL(acct, 0);
    CALL(syslog, 3, buffer, 10);
    CALL(quotactl, 0, 0, 0, 0);
    CALL(sethostname, "x", 1);
    CALL(fanotify_init, 0, 0);
    CALL(memfd_secret, 0);
    CALL(vhangup, 0);
    CALL(mbind, 0, 0, 0, 0, 0, 0);
    TRY("fallocate", syscall(SYS_fallocate, open("/work/f", O_CREAT | O_RDWR, 0600), 0, 0L, 1L << 20));
    TRY("mknod-device", mknod("/tmp/d", S_IFCHR | 0600, 0x103));
    TRY("mknod-pipe", mknod("/tmp/p", S_IFIFO | 0600, 0));
    TRY("personality-no-randomize", syscall(SYS_personality, 0x40000));
    TRY("personality-read-exec", syscall(SYS_personality, 0x400000));
    TRY("prctl-set-mm", syscall(SYS_prctl, 35, 1, 0, 0, 0));
    TRY("prctl-pdeathsig-none", syscall(SYS_prctl, 1, 0, 0, 0, 0));
    TRY("ioctl-tiocsti", syscall(SYS_ioctl, 0, 0x5412UL, "x"));
    TRY("ioctl-tiocsti-high", syscall(SYS_ioctl, 0, HIGH | 0x5412UL, "x"));
    TRY("ioctl-tioclinux", syscall(SYS_ioctl, 0, 0x541CUL, "\2"));
    TRY("socket-unix", socket(AF_UNIX, SOCK_STREAM, 0));
    TRY("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
    TRY("socket-inet-raw", socket(AF_INET, SOCK_RAW, 1));
    TRY("socket-inet6", socket(AF_INET6, SOCK_DGRAM, 0));
    TRY("socket-netlink-route", socket(AF_NETLINK, SOCK_RAW, 0));
    TRY("socket-netlink-audit", socket(AF_NETLINK, SOCK_RAW, 9));
    TRY("socket-netlink-netfilter", socket(AF_NETLINK, SOCK_RAW, 12));
    TRY("socket-netlink-high", syscall(SYS_socket, AF_NETLINK, SOCK_RAW, HIGH | 12));
    TRY("socket-packet", socket(AF_PACKET, SOCK_RAW, 0));
    TRY("socket-vsock", socket(40, SOCK_STREAM, 0));
    TRY("socket-vsock-high", syscall(SYS_socket, HIGH | 40, SOCK_STREAM, 0));
    TRY("socket-alg", socket(38, SOCK_SEQPACKET, 0));
    TRY("socket-bluetooth", socket(31, SOCK_RAW, 0));
    TRY("socket-xdp", socket(44, SOCK_RAW, 0));
    TRY("no-such-call", syscall(9999));
    TRY("setuid-root", setuid(0));
    TRY("kill-init", kill(1, SIGKILL));
#if defined(__x86_64__)
    CALL(iopl, 3);
    CALL(ioperm, 0, 1, 1);
    CALL(modify_ldt, 0, buffer, 16);
    TRY("int80-getpid", int80(20));
    TRY("x32-getpid", syscall(0x40000000 | SYS_getpid));
    TRY("x32-unshare", syscall(0x40000000 | SYS_unshare, 0x10000000));
#endif
}

static int reach(int family, int kind, const char *address, int port) {
    int descriptor = socket(family, kind, 0);
    if (descriptor < 0)
        return -1;
    if (family == AF_INET) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
        inet_pton(AF_INET, address, &to.sin_addr);
        return connect(descriptor, (struct sockaddr *)&to, sizeof to);
    }
    if (family == AF_INET6) {
        struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        inet_pton(AF_INET6, address, &to.sin6_addr);
        return connect(descriptor, (struct sockaddr *)&to, sizeof to);
    }
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path + 1, address, sizeof to.sun_path - 2);
    return connect(descriptor, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(address));
}

static int add_route(void) {
    struct {
        struct nlmsghdr head;
        struct rtmsg route;
    } ask = {{.nlmsg_len = sizeof ask, .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
             {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_type = RTN_UNICAST}};
    char answer[4096];
    int descriptor = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (descriptor < 0 || send(descriptor, &ask, sizeof ask, 0) < 0 || recv(descriptor, answer, sizeof answer, 0) < 0)
        return -1;
    errno = -((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)answer))->error;
    return errno ? -1 : 0;
}

static void network(int port, const char *abstract) {
    TRY("tcp-out", reach(AF_INET, SOCK_STREAM, "192.0.2.1", 80));
    TRY("udp-out", reach(AF_INET, SOCK_DGRAM, "192.0.2.1", 53));
    TRY("tcp-metadata", reach(AF_INET, SOCK_STREAM, "169.254.169.254", 80));
    TRY("tcp-private", reach(AF_INET, SOCK_STREAM, "10.0.0.1", 80));
    TRY("udp-broadcast", reach(AF_INET, SOCK_DGRAM, "255.255.255.255", 67));
    TRY("udp-multicast", reach(AF_INET, SOCK_DGRAM, "224.0.0.251", 5353));
    TRY("tcp6-out", reach(AF_INET6, SOCK_STREAM, "2001:db8::1", 80));
    TRY("udp6-out", reach(AF_INET6, SOCK_DGRAM, "2001:db8::1", 53));
    TRY("tcp6-loopback", reach(AF_INET6, SOCK_STREAM, "::1", 8080));
    TRY("tcp-loopback-other", reach(AF_INET, SOCK_STREAM, "127.0.0.1", port));
    TRY("tcp-door", reach(AF_INET, SOCK_STREAM, "127.0.0.1", 8080));
    TRY("icmp", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
    TRY("unix-host-abstract", reach(AF_UNIX, SOCK_STREAM, abstract, 0));
    TRY("netlink-add-route", add_route());
    struct addrinfo *found;
    int answer = getaddrinfo("example.com", "80", 0, &found);
    printf("name-server %s\n", answer == EAI_NONAME ? "EAI_NONAME" : answer == 0 ? "ok" : gai_strerror(answer));
    fflush(stdout);
}

/* Memory until there is no more. */
static void hog(void) {
    for (;;) {
        char *piece = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED)
            _exit(3);
        memset(piece, 1, 1 << 20);
    }
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    if (!strcmp(what, "calls")) {
        calls();
    } else if (!strcmp(what, "network")) {
        network(atoi(arguments[2]), arguments[3]);
    } else if (!strcmp(what, "hog")) {
        hog();
    } else if (!strcmp(what, "hog-child")) {
        if (fork() == 0)
            hog();
        wait(0);
    } else if (!strcmp(what, "hog-memfd")) {
        int descriptor = memfd_create("x", 0);
        static char block[1 << 20];
        memset(block, 1, sizeof block);
        while (write(descriptor, block, sizeof block) > 0) {
        }
        printf("stopped\n");
    } else if (!strcmp(what, "hog-pipes")) {
        static char block[1 << 20];
        for (;;) {
            int ends[2];
            if (pipe2(ends, O_NONBLOCK) < 0)
                break;
            fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
            while (write(ends[1], block, sizeof block) > 0) {
            }
        }
        printf("stopped\n");
    } else if (!strcmp(what, "hog-shm")) {
        for (;;) {
            int segment = shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600);
            char *piece = segment < 0 ? (char *)-1 : shmat(segment, 0, 0);
            if (piece == (char *)-1)
                break;
            memset(piece, 1, 1 << 20);
            shmdt(piece);
        }
        printf("stopped\n");
    } else if (!strcmp(what, "bomb")) {
        puts("up");
        fflush(stdout);
        for (;;)
            fork();
    } else if (!strcmp(what, "blocked")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, 0);
        for (;;) {
        }
    } else if (!strcmp(what, "stop")) {
        raise(SIGSTOP);
    } else if (!strcmp(what, "forbidden")) {
        syscall(SYS_bpf, 0, 0, 0);
    } else if (!strcmp(what, "nameless")) {
        /* Files without names, each as large as may be. */
        static char block[1 << 20];
        memset(block, 1, sizeof block);
        for (int number = 0;; number++) {
            int descriptor = open("/work/x", O_CREAT | O_RDWR, 0600);
            unlink("/work/x");
            for (int piece = 0; piece < 16; piece++)
                if (write(descriptor, block, sizeof block) <= 0)
                    break;
        }
    } else if (!strcmp(what, "leave")) {
        /* A daemon that keeps standard output. */
        if (fork() == 0) {
            setsid();
            if (fork() == 0) {
                signal(SIGHUP, SIG_IGN);
                signal(SIGTERM, SIG_IGN);
                for (;;)
                    sleep(1000);
            }
            _exit(0);
        }
        wait(0);
        printf("left\n");
    } else {
        return 2;
    }
    return 0;
}

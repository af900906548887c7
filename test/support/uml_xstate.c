/*
 * User Mode Linux 6.1 keeps 2696 bytes of a process's vector registers. Where the machine has more (AMX), its kernel refuses to take so
 * few back (-EFAULT) and the node dies at its first process. Loaded with LD_PRELOAD, this makes up the rest: zeros, the state in
 * which nobody uses those registers.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* XSAVE area: 512 bytes of legacy state, then a header that begins with the set of components that are not in their initial state. */
#define XSTATE_BV 512
#define COMPONENTS_KEPT 0x3ffUL

static char full[1 << 16] __attribute__((aligned(64)));

static long set_xstate(pid_t pid, const struct iovec *given) {
	static size_t full_len;
	struct iovec v = {full, sizeof full};
	if (full_len == 0) {
		if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &v) < 0)
			return -1;
		full_len = v.iov_len;
		memset(full, 0, sizeof full);
	}
	memcpy(full, given->iov_base, given->iov_len);
	*(unsigned long *)(full + XSTATE_BV) &= COMPONENTS_KEPT;
	v.iov_len = full_len;
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &v);
}

long ptrace(enum __ptrace_request request, ...) {
	va_list args;
	long peeked;
	va_start(args, request);
	pid_t pid = va_arg(args, pid_t);
	void *addr = va_arg(args, void *);
	void *data = va_arg(args, void *);
	va_end(args);
	if (request == PTRACE_SETREGSET && (long)addr == NT_X86_XSTATE)
		return set_xstate(pid, data);
	/* The system call stores what it has peeked; glibc returns it. */
	int peeks = request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
	long rc = syscall(SYS_ptrace, request, pid, addr, peeks ? &peeked : data);
	return rc == 0 && peeks ? peeked : rc;
}

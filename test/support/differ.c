/*
 * differ: random system calls on one file system, each with what it returned and what it changed, a line each. The same seed does the same, so the
 * output on two file systems is the same where they behave the same (scripts/differ.mjs compares). After each call the whole tree is looked at;
 * only what has changed is printed. Of times it says which have moved.
 *
 * What the one file system cannot do the other is not asked for: with -k, KNOWN below is what OCFS2 or FUSE answers in place of the call.
 *
 * usage: differ [-k] [-a] [-t] SEED CALLS DIR | ..., as root (to a pipe: files have limits now and then); DIR is empty, and the root of the program's: no name leads out of it. -a: some calls set immutable and
 *        append-only. -t: the kernel keeps the times of files (-o writeback_cache); its clock ticks before each call, and it does not know of chattr.
 *        A second DIR is the same folder by way of another node: each call is made on one of the two, and what came of it is looked at on the other.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include "random.h"

#define COUNT(a) ((long)(sizeof(a) / sizeof((a)[0])))
#define PICK(a) ((a)[below(COUNT(a))])
#define BUFFER (1 << 20)
#define SLOTS 8
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static int known, chattr, ticks, limited, two, node, root_fds[2], proc_fd;
static char *buffer;
static struct timespec began;

static int percent(int p)
{
	return below(100) < p;
}

static void seed(uint64_t s)
{
	rng = s * 0x9e3779b97f4a7c15ull + 0x1234567;
	for (int i = 0; i < 8; i++)
		any();
}

/* The line of the call that is under way. */
static char line[16384];
static size_t used;

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	used += vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	if (used >= sizeof(line))
		used = sizeof(line) - 1;
}

static const char *shown(const char *name)
{
	static char out[8][128];
	static int at;
	char *o = out[at++ & 7];

	if (strlen(name) < 100)
		return name;
	snprintf(o, 128, "%.20s...(%zu)", name, strlen(name));
	return o;
}

/* FUSE asks us about immutable and append-only when it has looked at all else: which of two reasons is given may differ then. */
static long result(long r)
{
	if (r < 0 && chattr && errno != EBADF && errno != ENODATA)
		say(" = refused");
	else if (r < 0)
		say(" = %s", strerrorname_np(errno));
	else
		say(" = %ld", r);
	return r;
}

/* 0 or an errno, of what gives no number that can be compared. */
static long outcome(long r)
{
	return result(r < 0 ? r : 0) < 0 ? -1 : r;
}

static uint64_t hash(const char *p, size_t n, uint64_t h)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211ull;
	return h;
}

#define HASH 14695981039346656037ull

static void fill(char *p, size_t n)
{
	uint64_t x = ((uint64_t)any() << 32 | any()) | 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		p[i] = x >> 56;
	}
}

/* ---- who asks ---- */

static const struct user {
	uid_t uid;
	gid_t gid;
	int count;
	gid_t groups[2];
} users[] = {
	{0, 0, 1, {0}}, {1000, 100, 1, {100}}, {1001, 200, 2, {200, 100}}, {1000, 300, 0, {0}}, {1002, 300, 1, {100}},
};

static void become(int i)
{
	const struct user *u = &users[i];

	if (seteuid(0) || setgroups(u->count, u->groups) || setresgid(u->gid, u->gid, 0) || seteuid(u->uid)) {
		perror("differ: become");
		exit(2);
	}
}

/* ---- names ---- */

struct seen {
	char path[256];
	struct stat st;
	uint64_t content, xattrs;
	char target[80];
	int checked;
};

static struct seen *before, *after;
static int n_before, n_after;
#define MOST 4000

static const char *const NAMES[] = {"a", "b", "c", "d", "e"};

static char *path(void)
{
	static char ring[8][PATH_MAX + 600];
	static int at;
	char *p = ring[at++ & 7];
	int depth = 1 + (percent(55) ? 0 : percent(70) ? 1 : 2);
	int n = 0;

	p[0] = 0;
	if (percent(1)) {
		long len = percent(50) ? 255 : 256;

		memset(p, 'n', len);
		p[len] = 0;
		return p;
	}
	if (percent(1)) {
		static const char *const ODD[] = {"", ".", "..", "/", "a/.", "b/..", "a/", "b/", "./a", "a//b", "../x/./..", "a/b/c/d/e/a/b/c"};

		return strcpy(p, PICK(ODD));
	}
	if (below(1000) == 0) {
		while (n < PATH_MAX + (int)below(4) - 2)
			n += sprintf(p + n, "./");
		return p;
	}
	if (n_before > 0 && percent(55)) {
		strcpy(p, before[below(n_before)].path);
		if (percent(30) && strlen(p) < 200)
			sprintf(p + strlen(p), "/%s", PICK(NAMES));
		return p;
	}
	for (int i = 0; i < depth; i++)
		n += sprintf(p + n, "%s%s", i ? "/" : "", PICK(NAMES));
	if (percent(2))
		strcat(p, "/");
	return p;
}

/* ---- open files ---- */

static struct slot {
	int fd;
	int flags;
	int node;
	char of[80];
} slots[SLOTS];

static int slot(void)
{
	return below(SLOTS);
}

/* An open file, or rarely one that is not. */
static struct slot *held(void)
{
	struct slot *s = &slots[slot()];

	for (int i = 0; i < 6 && s->fd < 0; i++)
		s = &slots[slot()];
	say(" fd%ld(%s)", (long)(s - slots), s->of);
	/* What was set by way of another descriptor. */
	if (s->fd >= 0)
		s->flags = fcntl(s->fd, F_GETFL);
	return s;
}

static void let_go(struct slot *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	strcpy(s->of, "-");
}

/*
 * A file that became immutable after it was opened: ext4 refuses what is written then, the kernel's ocfs2 does not. And an append-only file that has to
 * lose setuid or setgid by a write is not written to on others; ours loses them.
 */
static int frozen(const struct slot *s)
{
	long flags = 0;
	struct stat st;

	if (!chattr || fstat(s->fd, &st) || ioctl(s->fd, FS_IOC_GETFLAGS, &flags))
		return 0;
	return flags & FS_IMMUTABLE_FL || (flags & FS_APPEND_FL && st.st_mode & 06000);
}

/* A folder to start from: mostly the top, else an open one. */
static int at(void)
{
	struct slot *s;

	if (!percent(12))
		return AT_FDCWD;
	s = held();
	return s->node == node ? s->fd : AT_FDCWD;
}

/* From here on names are those of a node. */
static void turn_to(int n)
{
	if (n == node)
		return;
	node = n;
	if (fchdir(root_fds[n]) || chroot(".")) {
		perror("differ: chroot");
		exit(2);
	}
}

static mode_t any_mode(void)
{
	static const mode_t MODES[] = {0644, 0600, 0666, 0755, 0777, 04755, 02755, 02745, 06777, 0, 0444, 01777, 0640, 0711, 02775, 04711, 0070, 0007};

	return PICK(MODES);
}

static off_t any_offset(void)
{
	static const off_t ODD[] = {0, 1, 4095, 4096, 4097, 65536, 100000, 1 << 20};

	if (percent(1))
		return -1 - below(3);
	if (percent(1))
		return (off_t)1 << (30 + below(11));
	return percent(40) ? PICK(ODD) : below(200000);
}

static size_t any_length(void)
{
	static const size_t ODD[] = {0, 1, 60, 4096, 4097, 8192, 65536, 131072};

	return percent(40) ? PICK(ODD) : (size_t)below(percent(80) ? 9000 : 200000);
}

/* O_DIRECT asks ext4 for whole blocks; ours takes any. */
static void align(const struct slot *s, off_t *offset, size_t *n)
{
	if (!(s->flags & O_DIRECT))
		return;
	if (*offset > 0)
		*offset &= ~4095l;
	*n &= ~4095ul;
}

/* ---- what there is ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint64_t content_of(const char *name, const struct stat *st)
{
	static char block[65536];
	int fd = open(name, O_RDONLY | O_NOATIME | O_NONBLOCK | O_NOFOLLOW);
	uint64_t h = HASH;
	off_t done = 0;

	if (fd < 0)
		return errno;
	while (done < st->st_size && done < (1 << 19)) {
		ssize_t n = pread(fd, block, sizeof(block), done);

		if (n <= 0) {
			h = n < 0 ? errno : 7;
			break;
		}
		h = hash(block, n, h);
		done += n;
	}
	if (done < st->st_size) {
		ssize_t n = pread(fd, block, 4096, st->st_size - 4096);

		h = n < 0 ? errno : hash(block, n, h);
	}
	close(fd);
	return h;
}

static uint64_t xattrs_of(const char *name)
{
	static char list[65536], value[65536];
	char *names[2000];
	int n = 0;
	ssize_t len = llistxattr(name, list, sizeof(list));
	uint64_t h = HASH;

	if (len < 0)
		return errno;
	for (char *p = list; p < list + len; p += strlen(p) + 1)
		names[n++] = p;
	qsort(names, n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		ssize_t v = lgetxattr(name, names[i], value, sizeof(value));

		h = hash(names[i], strlen(names[i]) + 1, h);
		h = v < 0 ? h + errno : hash(value, v, h);
	}
	return h;
}

static void look(const char *name, const char *rel)
{
	struct seen *s = &after[n_after];
	char *names[2000];
	int n = 0;
	DIR *d;

	if (n_after == MOST)
		return;
	memset(s, 0, sizeof(*s));
	snprintf(s->path, sizeof(s->path), "%s", rel);
	if (lstat(name, &s->st)) {
		s->content = errno;
		n_after++;
		return;
	}
	n_after++;
	if (S_ISLNK(s->st.st_mode)) {
		char target[PATH_MAX];
		ssize_t len = readlink(name, target, sizeof(target) - 1);

		if (len < 0)
			len = snprintf(target, sizeof(target), "%s", strerrorname_np(errno));
		target[len] = 0;
		snprintf(s->target, sizeof(s->target), "%.40s(%zd)", target, len);
	}
	if (!S_ISDIR(s->st.st_mode))
		return;
	d = opendir(name);
	if (!d) {
		s->content = errno;
		return;
	}
	for (struct dirent *e; (e = readdir(d)) && n < COUNT(names);) {
		if (e->d_name[0] == '.' && (!e->d_name[1] || (e->d_name[1] == '.' && !e->d_name[2])))
			continue;
		names[n++] = strdup(e->d_name);
	}
	closedir(d);
	qsort(names, n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		char below_it[PATH_MAX + 300];

		snprintf(below_it, sizeof(below_it), "%s%s%s", strcmp(name, ".") ? name : "", strcmp(name, ".") ? "/" : "", names[i]);
		look(below_it, below_it);
		free(names[i]);
	}
}

/* A time that somebody set is shown; one that the file system has taken from its clock is "now". */
static void say_time(const char *what, const struct timespec *t)
{
	if (llabs(t->tv_sec - began.tv_sec) > 100000)
		say(" %s=%lld.%09ld", what, (long long)t->tv_sec, t->tv_nsec);
}

static int same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static const char *first_of(const struct stat *st, int upto)
{
	for (int i = 0; i < upto; i++)
		if (after[i].st.st_ino == st->st_ino)
			return after[i].path;
	return "";
}

static void say_stat(const struct stat *st)
{
	say(" %o %d:%d links=%ld", st->st_mode, st->st_uid, st->st_gid, (long)st->st_nlink);
	if (S_ISREG(st->st_mode) || S_ISLNK(st->st_mode))
		say(" size=%lld", (long long)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		say(" rdev=%lx", (long)st->st_rdev);
	say_time("m", &st->st_mtim);
	say_time("a", &st->st_atim);
	say_time("c", &st->st_ctim);
}

/* Prints how the tree differs from what it was; all of it when `all`. */
static void compare(int all)
{
	int j = 0;

	n_after = 0;
	look(".", ".");
	for (int i = 0; i < n_after; i++) {
		struct seen *s = &after[i], *old = NULL;
		int is_new, moved = 0;

		for (int k = 0; k < n_before && !old; k++, j++) {
			if (j >= n_before)
				j = 0;
			if (!strcmp(before[j].path, s->path))
				old = &before[j];
		}
		is_new = all || !old || old->st.st_ino != s->st.st_ino || (old->st.st_mode ^ s->st.st_mode) & S_IFMT;
		if (!is_new) {
			s->content = old->content;
			s->xattrs = old->xattrs;
			moved = (same_time(&old->st.st_mtim, &s->st.st_mtim) ? 0 : 1) | (same_time(&old->st.st_ctim, &s->st.st_ctim) ? 0 : 2) |
				(same_time(&old->st.st_atim, &s->st.st_atim) ? 0 : 4);
			if (!moved && old->st.st_mode == s->st.st_mode && old->st.st_nlink == s->st.st_nlink && old->st.st_uid == s->st.st_uid &&
			    old->st.st_gid == s->st.st_gid && (!S_ISREG(s->st.st_mode) || old->st.st_size == s->st.st_size))
				continue;
		}
		if (S_ISREG(s->st.st_mode))
			s->content = content_of(s->path, &s->st);
		s->xattrs = xattrs_of(s->path);
		used = 0;
		say("    %s %s", is_new ? "+" : "~", shown(s->path));
		say_stat(&s->st);
		if (s->st.st_nlink > 1 && !S_ISDIR(s->st.st_mode))
			say(" is=%s", shown(first_of(&s->st, i + 1)));
		if (moved)
			say(" moved=%s%s%s", moved & 1 ? "m" : "", moved & 2 ? "c" : "", moved & 4 ? "a" : "");
		if (s->target[0])
			say(" -> %s", s->target);
		say(" x%04x", (unsigned)(s->xattrs & 0xffff));
		if (S_ISREG(s->st.st_mode))
			say(" #%08x", (unsigned)s->content);
		puts(line);
	}
	for (int i = 0; i < n_before; i++) {
		int there = 0;

		for (int k = 0; k < n_after && !there; k++)
			there = !strcmp(after[k].path, before[i].path);
		if (!there)
			printf("    - %s\n", shown(before[i].path));
	}
	struct seen *swap = before;
	before = after;
	n_before = n_after;
	after = swap;
}

/* Open files that may have no name. */
static void compare_open(void)
{
	static struct stat was[SLOTS];

	for (int i = 0; i < SLOTS; i++) {
		struct stat st;

		if (slots[i].fd < 0) {
			memset(&was[i], 0, sizeof(was[i]));
			continue;
		}
		if (fstat(slots[i].fd, &st)) {
			printf("    fd%d %s\n", i, strerrorname_np(errno));
			continue;
		}
		if (st.st_nlink == was[i].st_nlink && st.st_mode == was[i].st_mode && (S_ISDIR(st.st_mode) || st.st_size == was[i].st_size) && st.st_uid == was[i].st_uid &&
		    st.st_gid == was[i].st_gid)
			continue;
		was[i] = st;
		used = 0;
		say("    fd%d", i);
		say_stat(&st);
		puts(line);
	}
}

/* ---- calls ---- */

static void put_slot(int fd, int flags, const char *of)
{
	struct slot *s = &slots[slot()];

	let_go(s);
	s->fd = fd;
	s->flags = flags;
	s->node = node;
	snprintf(s->of, sizeof(s->of), "%s", shown(of));
	say(" in fd%ld", (long)(s - slots));
}

/* The only devices that are opened are null and what is not there. */
static void do_open(void)
{
	static const struct {
		int flag, percent;
		const char *name;
	} FLAGS[] = {
		{O_CREAT, 50, "CREAT"}, {O_EXCL, 15, "EXCL"}, {O_TRUNC, 15, "TRUNC"}, {O_APPEND, 20, "APPEND"}, {O_NOFOLLOW, 8, "NOFOLLOW"},
		{O_DIRECTORY, 6, "DIRECTORY"}, {O_PATH, 6, "PATH"}, {O_TMPFILE, 6, "TMPFILE"}, {O_NOATIME, 4, "NOATIME"}, {O_DIRECT, 8, "DIRECT"},
		{O_DSYNC, 4, "DSYNC"}, {O_SYNC, 3, "SYNC"},
	};
	static const int ACCESS[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR};
	int flags = PICK(ACCESS) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	mode_t mode = any_mode();
	const char *p = path();
	int fd;

	if (percent(1))
		flags |= O_ACCMODE;
	for (int i = 0; i < COUNT(FLAGS); i++)
		if (percent(FLAGS[i].percent)) {
			flags |= FLAGS[i].flag;
			say(" %s", FLAGS[i].name);
		}
	say(" %d %s 0%o", flags & O_ACCMODE, shown(p), mode);
	fd = outcome(openat(at(), p, flags, mode));
	if (fd >= 0) {
		int got = fcntl(fd, F_GETFL);

		say(" %o", got & (O_ACCMODE | O_APPEND | O_DIRECT | O_PATH | O_NOATIME));
		put_slot(fd, got, p);
	}
}

static void do_openat2(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, 1u << below(5)};
	const char *p = path();
	int fd;

	if (percent(30)) {
		how.flags |= O_CREAT | O_RDWR;
		how.mode = 0644;
	}
	say(" %s resolve=%lx", shown(p), (long)how.resolve);
	/* RESOLVE_CACHED is about what the kernel has in its caches. */
	fd = outcome(syscall(SYS_openat2, AT_FDCWD, p, &how, sizeof(how)));
	if (fd >= 0)
		put_slot(fd, fcntl(fd, F_GETFL), p);
}

static void do_close(void)
{
	struct slot *s = held();

	let_go(s);
}

static void do_dup(void)
{
	struct slot *s = held();
	int fd = outcome(dup(s->fd)), here = node;

	node = s->node;
	if (fd >= 0)
		put_slot(fd, s->flags, s->of);
	node = here;
}

static void say_data(long n)
{
	if (result(n) > 0)
		say(" #%08x", (unsigned)hash(buffer, n, HASH));
}

static void do_read(void)
{
	struct slot *s = held();
	size_t n = any_length();
	off_t offset = any_offset();
	struct iovec v[2] = {{buffer, n / 2 & ~4095ul}, {buffer + (n / 2 & ~4095ul), n - (n / 2 & ~4095ul)}};

	align(s, &offset, &n);
	v[1].iov_len = n - v[0].iov_len > n ? 0 : n - v[0].iov_len;
	switch (below(3)) {
	case 0:
		say(" read %zu", n);
		say_data(s->flags & O_DIRECT ? 0 : read(s->fd, buffer, n));
		break;
	case 1:
		say(" pread %zu @%lld", n, (long long)offset);
		say_data(pread(s->fd, buffer, n, offset));
		break;
	default:
		say(" preadv2 %zu+%zu @%lld", v[0].iov_len, v[1].iov_len, (long long)offset);
		say_data(preadv2(s->fd, v, 2, offset, percent(20) ? RWF_HIPRI : 0));
	}
}

static void do_write(void)
{
	static const int RWF[] = {0, 0, 0, RWF_DSYNC, RWF_SYNC, RWF_APPEND, RWF_APPEND | RWF_DSYNC, 0x10000};
	struct slot *s = held();
	size_t n = any_length();
	off_t offset = any_offset();
	int flags = PICK(RWF);
	struct iovec v;
	struct stat st;

	/* A FUSE file system's pipes and devices keep their times (docs/FUSE.md). */
	if (fstat(s->fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return;
	if (frozen(s) || (limited && s->flags & O_DIRECT))
		return;
	align(s, &offset, &n);
	fill(buffer, n);
	v = (struct iovec){buffer, n};
	/* FUSE does not say it (docs/FUSE.md). */
	if (two)
		flags &= ~RWF_APPEND;
	switch (below(3)) {
	case 0:
		if (s->flags & O_DIRECT)
			return;
		say(" write %zu", n);
		result(write(s->fd, buffer, n));
		say(" at %lld", (long long)lseek(s->fd, 0, SEEK_CUR));
		break;
	case 1:
		if (s->flags & O_DIRECT && s->flags & O_APPEND)
			return;
		say(" pwrite %zu @%lld", n, (long long)offset);
		result(pwrite(s->fd, buffer, n, offset));
		break;
	default:
		if (s->flags & O_DIRECT)
			return;
		if (percent(10))
			offset = -1;
		say(" pwritev2 %zu @%lld flags=%x", n, (long long)offset, flags);
		result(pwritev2(s->fd, &v, 1, offset, flags));
	}
}

static void do_lseek(void)
{
	struct slot *s = held();
	off_t offset = any_offset();
	int whence = below(5);
	struct stat st;
	off_t r;

	say(" %lld whence=%d", (long long)offset, whence);
	if (fstat(s->fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		/* Offsets in a folder are its file system's own. */
		whence = SEEK_SET;
		offset = 0;
	}
	r = lseek(s->fd, offset, whence);
	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		result(r);
		return;
	}
	/* Where there is data is a matter of blocks; but what is no data has to be zeros, and behind all data is a hole. */
	if (r < 0 && errno == ENXIO && offset >= 0 && offset < st.st_size)
		r = st.st_size;
	if (r < 0) {
		result(r);
		return;
	}
	if (r < offset || r > st.st_size)
		say(" = %lld: not between %lld and %lld", (long long)r, (long long)offset, (long long)st.st_size);
	if ((s->flags & O_ACCMODE) != O_WRONLY && !(s->flags & O_DIRECT)) {
		off_t from = whence == SEEK_DATA ? offset : r, n = whence == SEEK_DATA ? r - offset : 1;
		ssize_t got = pread(s->fd, buffer, n > BUFFER ? BUFFER : n, from);

		for (ssize_t i = 0; i < got; i++)
			if (buffer[i]) {
				say(" = %lld: data at %lld", (long long)r, (long long)from + i);
				break;
			}
	}
	lseek(s->fd, 0, SEEK_SET);
}

static void do_truncate(void)
{
	off_t size = any_offset();

	if (percent(50)) {
		struct slot *s = held();

		say(" ftruncate %lld", (long long)size);
		result(ftruncate(s->fd, size));
		return;
	}
	const char *p = path();

	say(" truncate %s %lld", shown(p), (long long)size);
	result(truncate(p, size));
}

static void do_fallocate(void)
{
	static const int MODES[] = {0, 0, 1, 3, 3, 16, 17, 2, 8, 32, 64, 128, 0x100};
	struct slot *s = held();
	int mode = PICK(MODES);
	off_t offset = any_offset();
	off_t n = any_length();
	long flags = 0;

	if (offset > 1 << 21)
		offset = 1 << 21;
	say(" mode=%d %lld+%lld", mode, (long long)offset, (long long)n);
	/* The kernel's ocfs2 allocates nothing for append-only files, ext4 does. */
	if (chattr && !ioctl(s->fd, FS_IOC_GETFLAGS, &flags) && flags & (FS_IMMUTABLE_FL | FS_APPEND_FL))
		return;
	/* ext4's times move although it refuses. */
	if (limited)
		return;
	/* Neither the kernel's ocfs2 nor FUSE knows the others. */
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		say(known || fallocate(s->fd, mode, offset, n) < 0 ? " known" : " = 0");
		return;
	}
	result(fallocate(s->fd, mode, offset, n));
}

static void do_copy_range(void)
{
	struct slot *a = held(), *b = held();
	loff_t from = below(100000), to = below(100000);
	size_t n = any_length();
	int offsets = percent(70);

	if ((a->flags | b->flags) & O_DIRECT || frozen(b) || a->node != b->node)
		return;
	say(" %zu %lld -> %lld", n, offsets ? (long long)from : -1, offsets ? (long long)to : -1);
	result(copy_file_range(a->fd, offsets ? &from : NULL, b->fd, offsets ? &to : NULL, n, percent(5) ? 1 : 0));
}

static void do_sendfile(void)
{
	struct slot *a = held(), *b = held();
	off_t from = below(100000);
	size_t n = any_length();

	if ((a->flags | b->flags) & O_DIRECT || frozen(b) || a->node != b->node)
		return;
	say(" sendfile %zu @%lld", n, (long long)from);
	result(sendfile(b->fd, a->fd, percent(50) ? &from : NULL, n));
}

static void do_splice(void)
{
	struct slot *a = held(), *b = held();
	loff_t from = below(100000), to = below(100000);
	size_t n = below(60000);
	struct stat one, two;
	int p[2];
	ssize_t r;

	/* A pipe that holds pages of the file that it is written to shows what they are by then. */
	if (fstat(a->fd, &one) || fstat(b->fd, &two) || one.st_ino == two.st_ino)
		return;
	if ((a->flags | b->flags) & O_DIRECT || frozen(b) || a->node != b->node || pipe2(p, O_NONBLOCK))
		return;
	say(" splice %zu %lld", n, (long long)from);
	/* How much one splice takes in is a matter of what is cached. */
	for (r = 0; r < (ssize_t)n;) {
		loff_t here = from + r;
		ssize_t k = splice(a->fd, &here, p[1], NULL, n - r, 0);

		if (k <= 0) {
			if (k < 0 && r == 0)
				r = -1;
			break;
		}
		r += k;
	}
	result(r);
	for (ssize_t left = r; left > 0;) {
		ssize_t k = splice(p[0], NULL, b->fd, percent(70) ? &to : NULL, left, 0);

		if (k <= 0) {
			result(k);
			break;
		}
		left -= k;
	}
	close(p[0]);
	close(p[1]);
}

static void do_map(void)
{
	struct slot *s = held();
	int prot = percent(70) ? PROT_READ | PROT_WRITE : PROT_READ;
	int flags = percent(80) ? MAP_SHARED : MAP_PRIVATE;
	off_t offset = below(4) * 4096;
	size_t n = 1 + below(9000);
	struct stat st;
	char *m;

	if (fstat(s->fd, &st) || chattr)
		return;
	say(" mmap %zu @%lld prot=%d flags=%d", n, (long long)offset, prot, flags);
	m = mmap(NULL, n, prot, flags, s->fd, offset);
	if (m == MAP_FAILED) {
		result(-1);
		return;
	}
	if (st.st_size > offset && S_ISREG(st.st_mode)) {
		size_t there = st.st_size - offset < (off_t)n ? (size_t)(st.st_size - offset) : n;
		size_t from = below(there), k = 1 + below(there - from);

		say(" #%08x", (unsigned)hash(m, there, HASH));
		if (prot & PROT_WRITE) {
			fill(m + from, k);
			say(" stored %zu+%zu", from, k);
		}
		if (percent(80) || prot & PROT_WRITE)
			result(msync(m, n, percent(80) || prot & PROT_WRITE ? MS_SYNC : MS_ASYNC));
	}
	munmap(m, n);
}

static void do_sync(void)
{
	struct slot *s = held();

	switch (below(6)) {
	case 0:
		say(" fsync");
		result(fsync(s->fd));
		break;
	case 1:
		say(" fdatasync");
		result(fdatasync(s->fd));
		break;
	case 2:
		say(" syncfs");
		result(syncfs(s->fd));
		break;
	case 3:
		say(" sync_file_range");
		result(sync_file_range(s->fd, 0, below(100000), SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
		break;
	case 4:
		say(" fadvise");
		errno = posix_fadvise(s->fd, 0, 0, percent(70) ? POSIX_FADV_DONTNEED : POSIX_FADV_WILLNEED);
		result(errno ? -1 : 0);
		break;
	default:
		say(" readahead");
		result(readahead(s->fd, 0, below(100000)));
	}
}

static void do_chmod(void)
{
	mode_t mode = any_mode();

	if (percent(40)) {
		struct slot *s = held();

		say(" fchmod 0%o", mode);
		result(fchmod(s->fd, mode));
		return;
	}
	const char *p = path();
	int flags = percent(15) ? AT_SYMLINK_NOFOLLOW : 0;

	say(" %s 0%o flags=%x", shown(p), mode, flags);
	result(syscall(SYS_fchmodat2, at(), p, mode, flags));
}

static void do_chown(void)
{
	static const int IDS[] = {-1, -1, 0, 1000, 1001, 1002};
	static const int GROUPS[] = {-1, -1, 0, 100, 200, 300};
	int uid = PICK(IDS), gid = PICK(GROUPS);

	/* Which chown(-1, -1) it is that FUSE passes on is not told (docs/FUSE.md). */
	if (uid == -1 && gid == -1)
		gid = 100;
	if (percent(40)) {
		struct slot *s = held();

		say(" fchown %d:%d", uid, gid);
		result(fchown(s->fd, uid, gid));
		return;
	}
	const char *p = path();
	int flags = percent(30) ? AT_SYMLINK_NOFOLLOW : 0;

	say(" %s %d:%d flags=%x", shown(p), uid, gid, flags);
	result(fchownat(at(), p, uid, gid, flags));
}

/* ext4 begins with the second before, and cuts nanoseconds off there. */
static struct timespec any_time(void)
{
	static const int64_t SECONDS[] = {0, 1, -1, 1000000000, 2147483647, 2147483648ll, -2147483647ll, 4294967296ll, 8589934592ll};
	struct timespec t = {PICK(SECONDS), below(1000000000)};

	/* What a node tells of times in a lock's value begins in 1970 (ocfs2_pack_timespec). */
	if (two && t.tv_sec < 0)
		t.tv_sec = -t.tv_sec;
	switch (below(6)) {
	case 0:
		t.tv_nsec = UTIME_NOW;
		break;
	case 1:
		t.tv_nsec = UTIME_OMIT;
		break;
	case 2:
		if (percent(10))
			t.tv_nsec = 1000000000;
	}
	return t;
}

static void say_asked(const struct timespec *t)
{
	if (t->tv_nsec == UTIME_NOW || t->tv_nsec == UTIME_OMIT)
		say(" %s", t->tv_nsec == UTIME_NOW ? "now" : "omit");
	else
		say(" %lld.%ld", (long long)t->tv_sec, t->tv_nsec);
}

static void do_utime(void)
{
	struct timespec t[2] = {any_time(), any_time()};

	if (percent(30)) {
		struct slot *s = held();

		say_asked(&t[0]);
		say_asked(&t[1]);
		result(futimens(s->fd, percent(10) ? NULL : t));
		return;
	}
	const char *p = path();
	int flags = percent(30) ? AT_SYMLINK_NOFOLLOW : 0;

	say(" %s", shown(p));
	say_asked(&t[0]);
	say_asked(&t[1]);
	say(" flags=%x", flags);
	result(utimensat(at(), p, percent(10) ? NULL : t, flags));
}

static void do_access(void)
{
	const char *p = path();
	int mode = below(8);
	int flags = (percent(60) ? AT_EACCESS : 0) | (percent(20) ? AT_SYMLINK_NOFOLLOW : 0);

	/* access(2) does not know of immutable (docs/FUSE.md). */
	if (chattr)
		mode &= ~W_OK;
	say(" %s %d flags=%x", shown(p), mode, flags);
	result(syscall(SYS_faccessat2, at(), p, mode, flags));
}

static void do_link(void)
{
	const char *a = path(), *b = path();

	if (percent(20)) {
		struct slot *s = held();
		char proc[16];

		if (s->fd < 0 || s->node != node)
			return;
		sprintf(proc, "%d", s->fd);
		say(" %s", shown(b));
		if (percent(50))
			result(linkat(proc_fd, proc, AT_FDCWD, b, AT_SYMLINK_FOLLOW));
		else
			result(linkat(s->fd, "", AT_FDCWD, b, AT_EMPTY_PATH));
		return;
	}
	int flags = percent(30) ? AT_SYMLINK_FOLLOW : 0;

	say(" %s %s flags=%x", shown(a), shown(b), flags);
	result(linkat(at(), a, at(), b, flags));
}

static void do_symlink(void)
{
	const char *p = path(), *target = path();

	if (percent(5)) {
		static char big[5000];
		static const int SIZES[] = {1, 59, 60, 61, 255, 1000, 3000, 4000, 4094, 4095, 4096};
		int n = PICK(SIZES);

		memset(big, 't', n);
		big[n] = 0;
		/* ext4's has to find room in a block. */
		if (n == 4095)
			big[--n] = 0;
		target = big;
	}
	say(" %s -> %s", shown(p), shown(target));
	result(symlinkat(target, at(), p));
}

static void do_readlink(void)
{
	const char *p = path();

	say(" %s", shown(p));
	say_data(readlinkat(at(), p, buffer, below(3) ? 5000 : below(4)));
}

static void do_rename(void)
{
	static const int FLAGS[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT, 3, 5, 6, 8};
	const char *a = path(), *b = path();
	int flags = PICK(FLAGS);

	say(" %s %s flags=%d", shown(a), shown(b), flags);
	/* The kernel's ocfs2 has no whiteouts. */
	if (flags & RENAME_WHITEOUT) {
		say(" known");
		return;
	}
	result(syscall(SYS_renameat2, at(), a, at(), b, flags));
}

static void do_unlink(void)
{
	const char *p = path();

	say(" %s", shown(p));
	result(unlinkat(at(), p, 0));
}

static void do_rmdir(void)
{
	const char *p = path();

	say(" %s", shown(p));
	result(unlinkat(at(), p, AT_REMOVEDIR));
}

static void do_mkdir(void)
{
	const char *p = path();
	mode_t mode = any_mode();

	say(" %s 0%o", shown(p), mode);
	result(mkdirat(at(), p, mode));
}

static void do_mknod(void)
{
	static const mode_t TYPES[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR, 0, S_IFLNK};
	const char *p = path();
	mode_t mode = PICK(TYPES) | any_mode();
	dev_t dev = percent(50) ? makedev(1, 3) : makedev(259, 70000);

	/* Who reads from a pipe is known on his node alone. */
	if (two && S_ISFIFO(mode))
		mode ^= S_IFIFO ^ S_IFSOCK;
	say(" %s 0%o %lx", shown(p), mode, (long)dev);
	result(mknodat(at(), p, mode, dev));
}

static void do_bind(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *p = path();
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(p) < sizeof(a.sun_path)) {
		strcpy(a.sun_path, p);
		say(" %s", p);
		result(*p ? bind(s, (struct sockaddr *)&a, sizeof(a)) : 0);
	}
	close(s);
}

static const char *xattr_name(void)
{
	static const char *const XATTRS[] = {"user.a", "user.b", "user.a", "user.b", "user.longer-name-of-an-attribute", "trusted.t", "trusted.a", "security.s", "user.",
		"foo.bar", "system.foo", "", "trusted.overlay.x", "user"};
	static char name[300];

	if (percent(3)) {
		int n = 254 + below(3);

		strcpy(name, "user.");
		memset(name + 5, 'x', n - 5);
		name[n] = 0;
		return name;
	}
	return PICK(XATTRS);
}

static long set_xattr(const char *name, const void *value, size_t n, int flags)
{
	if (percent(40)) {
		struct slot *s = held();

		return result(fsetxattr(s->fd, name, value, n, flags));
	}
	const char *p = path();
	int follow = percent(60);

	say(" %s%s", shown(p), follow ? "" : " nofollow");
	return result(follow ? setxattr(p, name, value, n, flags) : lsetxattr(p, name, value, n, flags));
}

static void do_setxattr(void)
{
	static const size_t SIZES[] = {0, 1, 20, 79, 80, 81, 100, 255, 256, 1000, 3000, 4000, 4096, 5000, 20000, 65535, 65536, 65537};
	static const int FLAGS[] = {0, 0, 0, XATTR_CREATE, XATTR_REPLACE, 3, 4};
	size_t n = percent(60) ? SIZES[below(8)] : PICK(SIZES);
	int flags = PICK(FLAGS);
	const char *name = xattr_name();

	/* The value that is there already moves no ctime on ext4. */
	if (n == 0)
		flags |= XATTR_CREATE;
	fill(buffer, n);
	say(" %s %zu flags=%d", shown(name), n, flags);
	set_xattr(name, buffer, n, flags);
}

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

/* system.posix_acl_*: mostly one that is valid. */
static void do_setacl(void)
{
	const char *name = percent(50) ? "system.posix_acl_access" : "system.posix_acl_default";
	uint32_t version = 2;
	struct acl_entry e[8];
	int n = 0, named = percent(60);

	e[n++] = (struct acl_entry){1, below(8), -1u};
	if (named)
		e[n++] = (struct acl_entry){2, below(8), percent(50) ? 1000 : 1001};
	e[n++] = (struct acl_entry){4, below(8), -1u};
	if (named && percent(50))
		e[n++] = (struct acl_entry){8, below(8), percent(50) ? 100 : 200};
	if (named || percent(30))
		e[n++] = (struct acl_entry){16, below(8), -1u};
	e[n++] = (struct acl_entry){32, below(8), -1u};
	if (percent(5))
		e[below(n)].tag = below(40);
	if (percent(3))
		e[below(n)].perm = 9;
	if (percent(3))
		version = 3;
	if (percent(3) && !chattr)
		n = below(n);
	memcpy(buffer, &version, 4);
	memcpy(buffer + 4, e, n * sizeof(*e));
	say(" %s", name + 17);
	for (int i = 0; i < n; i++)
		say(" %d:%d:%d", e[i].tag, e[i].id, e[i].perm);
	set_xattr(name, buffer, 4 + n * sizeof(*e) - (percent(3) ? 1 : 0), percent(80) ? 0 : 1 + below(2));
}

static void do_getxattr(void)
{
	static const size_t SIZES[] = {0, 1, 50, 100, 65536, 65536, 65536};
	const char *name = percent(20) ? (percent(50) ? "system.posix_acl_access" : "system.posix_acl_default") : xattr_name();
	size_t n = PICK(SIZES);
	long r;

	say(" %s %zu", shown(name), n);
	if (percent(40)) {
		struct slot *s = held();

		r = fgetxattr(s->fd, name, buffer, n);
	} else {
		const char *p = path();

		say(" %s", shown(p));
		r = percent(50) ? getxattr(p, name, buffer, n) : lgetxattr(p, name, buffer, n);
	}
	if (n == 0)
		result(r);
	else
		say_data(r);
}

static void do_listxattr(void)
{
	const char *p = path();
	size_t n = percent(60) ? 65536 : below(30);

	say(" %s %zu", shown(p), n);
	/* The order is the file system's: the length is compared here, the names when something changes. */
	result(percent(50) ? llistxattr(p, buffer, n) : listxattr(p, buffer, n));
}

static void do_removexattr(void)
{
	const char *name = percent(30) ? (percent(50) ? "system.posix_acl_access" : "system.posix_acl_default") : xattr_name();

	/* FUSE takes an ACL that is not there from an immutable file, too. */
	if (chattr && strstr(name, "acl"))
		return;
	say(" %s", shown(name));
	if (percent(40)) {
		struct slot *s = held();

		result(fremovexattr(s->fd, name));
		return;
	}
	const char *p = path();

	say(" %s", shown(p));
	result(percent(60) ? removexattr(p, name) : lremovexattr(p, name));
}

static void do_flags(void)
{
	static const long FLAGS[] = {0, 0, 0, FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL};
	struct stat st;
	struct slot *s = held();
	long now = 0, wanted = PICK(FLAGS);

	if (s->flags & O_PATH || ticks)
		return;
	if (ioctl(s->fd, FS_IOC_GETFLAGS, &now)) {
		say(" get");
		result(-1);
		return;
	}
	say(" had %lx", now & 0xf0);
	if (!chattr)
		wanted &= FS_NODUMP_FL;
	/* What is made in a folder of ext4 inherits them; of OCFS2 it does not. */
	if (fstat(s->fd, &st) || S_ISDIR(st.st_mode))
		wanted &= FS_IMMUTABLE_FL | FS_APPEND_FL;
	wanted |= now & ~0xf0l;
	say(" set %lx", wanted & 0xf0);
	result(ioctl(s->fd, FS_IOC_SETFLAGS, &wanted));
}

static void do_statfs(void)
{
	struct slot *s = held();
	struct statfs f;

	if (outcome(fstatfs(s->fd, &f)))
		return;
	say(" %ld", f.f_namelen);
	if (f.f_bavail > f.f_bfree || f.f_bfree > f.f_blocks || f.f_ffree > f.f_files)
		say(" more free than there is");
}

static void do_statx(void)
{
	static const int FLAGS[] = {0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_STATX_FORCE_SYNC, AT_STATX_DONT_SYNC, AT_STATX_SYNC_TYPE};
	struct statx x;
	const char *p = path();
	int flags = PICK(FLAGS);

	say(" %s flags=%x", shown(p), flags);
	if (outcome(statx(at(), p, flags, STATX_BASIC_STATS, &x)))
		return;
	say(" %o %d:%d %d", x.stx_mode, x.stx_uid, x.stx_gid, x.stx_nlink);
	if (S_ISREG(x.stx_mode))
		say(" %lld", (long long)x.stx_size);
}

static void do_readdir(void)
{
	struct slot *s = held();
	char *names[2000];
	int n = 0;
	long r;
	uint64_t h = HASH;
	size_t room = percent(30) ? 300 : 30000;

	if (percent(60))
		lseek(s->fd, 0, SEEK_SET);
	else
		return;
	while ((r = syscall(SYS_getdents64, s->fd, buffer, room)) > 0)
		for (long i = 0; i < r && n < COUNT(names);) {
			struct dirent64 *e = (struct dirent64 *)(buffer + i);
			char name[300];

			snprintf(name, sizeof(name), "%s %d", e->d_name, e->d_type);
			names[n++] = strdup(name);
			i += e->d_reclen;
		}
	qsort(names, n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		h = hash(names[i], strlen(names[i]) + 1, h);
		free(names[i]);
	}
	result(r);
	if (r >= 0)
		say(" %d names #%08x", n, (unsigned)h);
	/* How far a folder goes is its file system's own. */
	lseek(s->fd, 0, SEEK_SET);
}

/* In a folder that may be gone. */
static void do_cwd(void)
{
	struct slot *s = held();
	char here[PATH_MAX];
	const char *p = path();
	struct stat st;
	int fd;

	/* Above the folder that is the root of a node there is another one by way of the other. */
	if (s->node != node)
		return;
	say(" fchdir");
	if (result(fchdir(s->fd)))
		return;
	say(" getcwd");
	/* A folder has no path for a moment when another node has changed one (docs/FUSE.md). */
	if (two)
		say(" known");
	else if (getcwd(here, sizeof(here)))
		say(" %s", shown(here));
	else
		result(-1);
	say(" stat .. ");
	result(stat("..", &st));
	say(" create %s", shown(p));
	fd = outcome(open(p, O_CREAT | O_RDWR | O_EXCL | O_NONBLOCK, 0644));
	if (fd >= 0)
		close(fd);
	say(" mkdir");
	result(mkdir("x", 0755));
	say(" rmdir");
	result(rmdir("x"));
	say(" rename");
	result(rename(percent(50) ? "." : "a", "../b"));
	if (fchdir(root_fds[node]))
		exit(2);
}

static void do_setfl(void)
{
	struct slot *s = held();
	int flags = fcntl(s->fd, F_GETFL) ^ (percent(70) ? O_APPEND : O_NOATIME);

	if (chattr || two)
		return;
	say(" F_SETFL %o", flags & (O_APPEND | O_NOATIME));
	if (result(fcntl(s->fd, F_SETFL, flags)) == 0)
		s->flags = flags;
}

static void do_handle(void)
{
	struct {
		struct file_handle h;
		char room[128];
	} h = {.h.handle_bytes = 128};
	struct slot *s = held();
	int mount_id, fd, here = node;

	/* After this the kernel may forget the inode. */
	say(" name_to_handle");
	if (result(name_to_handle_at(s->fd, "", &h.h, &mount_id, AT_EMPTY_PATH)))
		return;
	node = s->node;
	fd = outcome(open_by_handle_at(root_fds[node], &h.h, O_RDONLY | O_NONBLOCK));
	if (fd >= 0)
		put_slot(fd, fcntl(fd, F_GETFL), s->of);
	node = here;
}

static void do_limit(void)
{
	static const rlim_t LIMITS[] = {RLIM_INFINITY, RLIM_INFINITY, 70000, 8192};
	struct rlimit l = {PICK(LIMITS), RLIM_INFINITY};

	say(" RLIMIT_FSIZE %lld", (long long)l.rlim_cur);
	become(0);
	limited = l.rlim_cur != RLIM_INFINITY;
	setrlimit(RLIMIT_FSIZE, &l);
}

static void do_lease(void)
{
	static const int KINDS[] = {F_RDLCK, F_WRLCK, F_UNLCK};
	struct slot *s = held();
	int kind = PICK(KINDS);

	if (two)
		return;
	say(" F_SETLEASE %d", kind);
	/* With a lease kept, the next open would wait. */
	result(fcntl(s->fd, F_SETLEASE, kind));
	fcntl(s->fd, F_SETLEASE, F_UNLCK);
}

static void do_quiet_truncate_open(void)
{
	const char *p = path();
	int fd = open(p, O_WRONLY | O_TRUNC | O_NONBLOCK);

	say(" O_TRUNC %s", shown(p));
	outcome(fd);
	if (fd >= 0)
		close(fd);
}

/* ---- locks between two processes ---- */

static int lock_fds[4] = {-1, -1, -1, -1};
static int other = -1;

static void lock_call(void)
{
	int i = below(4);
	int *fd = &lock_fds[i];
	struct flock l = {.l_type = below(3), .l_whence = below(3), .l_start = below(100) - 5, .l_len = below(60) - 10};
	struct stat st;
	int r;

	say(" lock%d", i);
	if (*fd < 0 || percent(15)) {
		char name[8];

		sprintf(name, "lock%ld", below(2));
		if (*fd >= 0)
			close(*fd);
		*fd = open(name, percent(80) ? O_RDWR : O_RDONLY);
		say(" open %s", name);
		outcome(*fd);
		return;
	}
	/* How long a folder is is its file system's own. */
	if (fstat(*fd, &st) || S_ISDIR(st.st_mode))
		l.l_whence = SEEK_SET;
	/* The others are known on their node alone. */
	switch (two ? 0 : below(4)) {
	case 0: {
		int how = below(3) == 0 ? LOCK_EX : percent(50) ? LOCK_SH : LOCK_UN;

		say(" flock %d", how);
		result(flock(*fd, how | LOCK_NB));
		break;
	}
	case 1:
		say(" SETLK %d %lld+%lld whence=%d", l.l_type, (long long)l.l_start, (long long)l.l_len, l.l_whence);
		result(fcntl(*fd, F_SETLK, &l));
		break;
	case 2:
		say(" OFD_SETLK %d %lld+%lld whence=%d", l.l_type, (long long)l.l_start, (long long)l.l_len, l.l_whence);
		result(fcntl(*fd, F_OFD_SETLK, &l));
		break;
	default: {
		int how = percent(50) ? F_GETLK : F_OFD_GETLK;

		say(" GETLK%s %d %lld+%lld whence=%d", how == F_GETLK ? "" : " OFD", l.l_type, (long long)l.l_start, (long long)l.l_len, l.l_whence);
		r = result(fcntl(*fd, how, &l));
		if (r == 0)
			say(" %d %lld+%lld %s", l.l_type, (long long)l.l_start, (long long)l.l_len, l.l_type == F_UNLCK ? "-" : l.l_pid == -1 ? "ofd" : l.l_pid == getpid() ? "own" : "other");
	}
	}
}

static void do_lock(void)
{
	uint64_t s = any();

	become(0);
	if (percent(50)) {
		uint64_t mine = rng;

		seed(s);
		lock_call();
		rng = mine;
		return;
	}
	ssize_t n;

	say(" other:");
	if (write(other, &s, sizeof(s)) != sizeof(s) || (n = read(other, buffer, BUFFER - 1)) <= 0) {
		fprintf(stderr, "differ: the other process is gone\n");
		exit(2);
	}
	buffer[n] = 0;
	say("%s", buffer);
}

static void start_other(void)
{
	int ends[2];
	uint64_t s;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		exit(2);
	fflush(stdout);
	if (fork() == 0) {
		close(ends[0]);
		turn_to(two);
		while (read(ends[1], &s, sizeof(s)) == sizeof(s)) {
			used = 0;
			seed(s);
			lock_call();
			if (write(ends[1], line, used) < 0)
				_exit(1);
		}
		_exit(0);
	}
	close(ends[1]);
	other = ends[0];
}

static const struct {
	const char *name;
	void (*call)(void);
	int weight;
} CALLS[] = {
	{"open", do_open, 16}, {"openat2", do_openat2, 1}, {"close", do_close, 3}, {"dup", do_dup, 1}, {"read", do_read, 6}, {"write", do_write, 10},
	{"lseek", do_lseek, 4}, {"truncate", do_truncate, 5}, {"fallocate", do_fallocate, 5}, {"copy_file_range", do_copy_range, 3}, {"sendfile", do_sendfile, 2},
	{"splice", do_splice, 2}, {"map", do_map, 4}, {"sync", do_sync, 2}, {"chmod", do_chmod, 7}, {"chown", do_chown, 7}, {"utimensat", do_utime, 5},
	{"access", do_access, 3}, {"link", do_link, 6}, {"symlink", do_symlink, 4}, {"readlink", do_readlink, 1}, {"rename", do_rename, 12}, {"unlink", do_unlink, 5},
	{"rmdir", do_rmdir, 4}, {"mkdir", do_mkdir, 10}, {"mknod", do_mknod, 4}, {"bind", do_bind, 1}, {"setxattr", do_setxattr, 6}, {"setacl", do_setacl, 6},
	{"getxattr", do_getxattr, 3}, {"listxattr", do_listxattr, 1}, {"removexattr", do_removexattr, 3}, {"flags", do_flags, 3}, {"statfs", do_statfs, 1},
	{"statx", do_statx, 2}, {"readdir", do_readdir, 3}, {"cwd", do_cwd, 3}, {"setfl", do_setfl, 1}, {"handle", do_handle, 1}, {"limit", do_limit, 1},
	{"lease", do_lease, 1}, {"O_TRUNC", do_quiet_truncate_open, 2}, {"lock", do_lock, 5},
};

static int call_of(int n)
{
	int i = 0;

	while ((n -= CALLS[i].weight) >= 0)
		i++;
	return i;
}

int main(int argc, char **argv)
{
	static const mode_t UMASKS[] = {0, 022, 022, 077, 02};
	int c, weights = 0;
	long calls;

	while ((c = getopt(argc, argv, "kat")) != -1) {
		known |= c == 'k';
		chattr |= c == 'a';
		ticks |= c == 't';
	}
	if (argc - optind != 3 && argc - optind != 4)
		return 2;
	two = argc - optind == 4;
	seed(strtoull(argv[optind], NULL, 10));
	calls = strtol(argv[optind + 1], NULL, 10);
	proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i <= two; i++)
		if ((root_fds[i] = open(argv[optind + 2 + i], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
			perror(argv[optind + 2 + i]);
			return 2;
		}
	node = -1;
	turn_to(0);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (posix_memalign((void **)&buffer, 4096, BUFFER) || !(before = calloc(MOST, sizeof(*before))) || !(after = calloc(MOST, sizeof(*after))))
		return 2;
	clock_gettime(CLOCK_REALTIME, &began);
	umask(0);
	chmod(".", 0777);
	for (int i = 0; i < 2; i++) {
		char name[8];

		sprintf(name, "lock%d", i);
		close(open(name, O_CREAT | O_RDWR, 0666));
	}
	for (int i = 0; i < SLOTS; i++) {
		slots[i].fd = -1;
		strcpy(slots[i].of, "-");
	}
	for (int i = 0; i < COUNT(CALLS); i++)
		weights += CALLS[i].weight;
	start_other();
	compare(1);
	for (long n = 1; n <= calls; n++) {
		int i = call_of(below(weights)), who = percent(50) ? 0 : below(COUNT(users));
		mode_t mask = PICK(UMASKS);

		used = 0;
		say("%ld %s", n, CALLS[i].name);
		if (who)
			say(" by %d", who);
		say(" umask=%o", mask);
		if (two) {
			turn_to(below(2));
			say(" on %d", node);
		}
		become(who);
		umask(mask);
		if (ticks)
			usleep(11000);
		errno = 0;
		CALLS[i].call();
		become(0);
		puts(line);
		turn_to(two ? 1 - node : 0);
		compare(0);
		compare_open();
		if (n % 256 == 0)
			fflush(stdout);
	}
	puts("all of it");
	compare(1);
	close(other);
	wait(NULL);
	return fflush(stdout) || ferror(stdout) ? 2 : 0;
}

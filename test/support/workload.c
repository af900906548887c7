/*
 * workload: what programs do to a file system, in one process, so that it runs alike on our mount and in a kernel node: names, links,
 * renames, sparse files, allocation, shared clusters, extended attributes, special files. The same seed does the same.
 * What the volume cannot do (no xattrs, no unwritten extents) is skipped and said.
 *
 * usage: workload [-s seed] [-k scale] [-x max_xattr_bytes] DIR [PART...]
 *        PARTS: names storm sparse falloc reflink xattr special bigdir churn
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "random.h"

static long scale = 100, max_xattr = 60000;
static unsigned char *buffer;
#define BUFFER (4 << 20)

static void die(const char *what, const char *name)
{
	fprintf(stderr, "workload: %s %s: %s\n", what, name, strerror(errno));
	exit(1);
}

static int skipped(const char *what)
{
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return 0;
	printf("skipped: %s\n", what);
	return 1;
}

static void fill(long n)
{
	uint64_t x = ((uint64_t)any() << 32 | any()) | 1;

	for (long i = 0; i < n; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(buffer + i, &x, 8);
	}
}

static int make(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT, 0644);

	if (fd < 0)
		die("create", name);
	return fd;
}

static void put(int fd, long at, long n, const char *name)
{
	fill(n);
	if (pwrite(fd, buffer, n, at) != n)
		die("write", name);
}

static void in_dir(const char *name)
{
	if (mkdir(name, 0755) && errno != EEXIST)
		die("mkdir", name);
	if (chdir(name))
		die("chdir", name);
}

static void up(void)
{
	if (chdir(".."))
		die("chdir", "..");
}

/* Names of all lengths and bytes, a deep path, links, symlinks of all lengths. */
static void names(void)
{
	char name[300], target[4096];

	in_dir("names");
	for (int len = 1; len <= 255; len += 1 + len / 12) {
		memset(name, 'a' + len % 26, len);
		snprintf(name + (len > 6 ? len - 6 : 0), 8, "%0*d", len > 6 ? 6 : len, len % (len > 1 ? 1000 : 10));
		name[len] = 0;
		int fd = make(name);
		put(fd, 0, len * 17, name);
		close(fd);
	}
	for (int c = 1; c < 256; c += 5) {
		if (c == '/' || c == '\n' || c == '\\')
			continue;
		snprintf(name, sizeof name, "byte-%c-%d", c, c);
		close(make(name));
	}
	close(make("\xd0\xb8\xd0\xbc\xd1\x8f \xe5\x90\x8d"));
	for (int len = 1; len < 4000; len += 1 + len / 3) {
		memset(target, 's', len);
		for (int i = 200; i < len; i += 200)
			target[i] = '/';
		target[len] = 0;
		snprintf(name, sizeof name, "symlink-%d", len);
		if (symlink(target, name) && errno != EEXIST && errno != ENAMETOOLONG)
			die("symlink", name);
	}
	close(make("linked"));
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof name, "link-%d", i);
		if (link("linked", name) && errno != EEXIST)
			die("link", name);
	}
	for (int i = 0; i < 30; i++) {
		snprintf(name, sizeof name, "level-%d", i);
		in_dir(name);
		close(make("here"));
	}
	for (int i = 0; i < 30; i++)
		up();
	up();
}

/* Files and folders renamed over each other and about. */
static void storm(void)
{
	char a[64], b[64];

	in_dir("storm");
	for (int d = 0; d < 6; d++) {
		snprintf(a, sizeof a, "d%d", d);
		if (mkdir(a, 0755) && errno != EEXIST)
			die("mkdir", a);
	}
	for (int i = 0; i < 2 * scale; i++) {
		snprintf(a, sizeof a, "d%ld/f%ld", below(6), below(scale));
		int fd = make(a);
		put(fd, below(3) * 1000, 1 + below(5000), a);
		close(fd);
	}
	for (int i = 0; i < 20 * scale; i++) {
		snprintf(a, sizeof a, "d%ld/f%ld", below(6), below(scale));
		snprintf(b, sizeof b, "d%ld/f%ld", below(6), below(scale));
		long k = below(10);
		int r = k < 7 ? rename(a, b) : k < 8 ? link(a, b) : k < 9 ? renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) : 0;
		/* OCFS2 in the kernel does not exchange names. */
		if (r && errno != ENOENT && errno != EEXIST && !(k == 8 && errno == EINVAL))
			die(a, b);
		if (k == 9 && unlink(a) && errno != ENOENT)
			die("unlink", a);
	}
	for (int i = 0; i < scale; i++) {
		snprintf(a, sizeof a, "d%ld/sub%ld", below(6), below(5));
		snprintf(b, sizeof b, "d%ld/sub%ld", below(6), below(5));
		if (below(2) ? mkdir(a, 0700) : rename(a, b))
			if (errno != EEXIST && errno != ENOENT && errno != ENOTEMPTY && errno != EINVAL)
				die(a, b);
	}
	up();
}

/* Files with holes, written in no order; large offsets; truncated up and down. */
static void sparse(void)
{
	char name[64];

	in_dir("sparse");
	for (int f = 0; f < 12; f++) {
		snprintf(name, sizeof name, "sparse-%d", f);
		int fd = make(name);
		long span = 1L << (14 + f);
		for (int i = 0; i < 20 + scale / 2; i++)
			put(fd, below(span), 1 + below(i % 5 == 0 ? 70000 : 3000), name);
		if (ftruncate(fd, span / 2 + below(span)))
			die("truncate", name);
		for (int i = 0; i < 5; i++)
			put(fd, below(span), 1 + below(900), name);
		close(fd);
	}
	int fd = make("far");
	for (long at = 0; at < 1L << 28; at = at * 3 + 12345)
		put(fd, at, 100, "far");
	struct stat st;
	int holes = fstat(fd, &st) == 0 && st.st_blocks < st.st_size / 512;
	close(fd);
	/* A volume without the sparse feature has no room for so many zeros. */
	if (holes) {
		fd = make("farther");
		put(fd, (1L << 35) + 77, 100000, "farther");
		close(fd);
	}
	fd = make("inline-then-not");
	for (long n = 0; n < 9000; n += 300)
		put(fd, n, 300, "inline-then-not");
	close(fd);
	up();
}

static void falloc(void)
{
	static const int modes[] = { 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE };
	char name[64];

	in_dir("falloc");
	for (int f = 0; f < 8; f++) {
		snprintf(name, sizeof name, "file-%d", f);
		int fd = make(name);
		put(fd, 0, 100000 + below(1000000), name);
		for (int i = 0; i < 30 + scale / 4; i++) {
			int mode = modes[below(3)];
			if (fallocate(fd, mode, below(1200000), 1 + below(200000))) {
				if (errno == EOPNOTSUPP || errno == ENOSYS)
					continue;
				die("fallocate", name);
			}
			if (i % 3 == 0)
				put(fd, below(1200000), 1 + below(20000), name);
		}
		close(fd);
	}
	int fd = make("reserved");
	if (fallocate(fd, 0, 0, 20 << 20) && !skipped("fallocate"))
		die("fallocate", "reserved");
	close(fd);
	up();
}

static void copy(int from, long at, int to, long into, long n)
{
	while (n > 0) {
		loff_t f = at, t = into;
		ssize_t got = copy_file_range(from, &f, to, &t, n, 0);
		if (got < 0 && (errno == EOPNOTSUPP || errno == EXDEV || errno == ENOSYS || errno == EINVAL)) {
			got = pread(from, buffer, n < BUFFER ? n : BUFFER, at);
			if (got > 0 && pwrite(to, buffer, got, into) != got)
				die("write", "copy");
		}
		if (got <= 0)
			die("copy_file_range", "");
		at += got, into += got, n -= got;
	}
}

/* Clones of files, and then writes to both sides of what they share. */
static void reflink(void)
{
	char name[64];
	long size = (1 << 20) + 12345;

	in_dir("reflink");
	int base = make("base");
	put(base, 0, size, "base");
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof name, "clone-%d", i);
		int fd = make(name);
		copy(base, 0, fd, 0, size);
		for (int w = 0; w < 6 + scale / 10; w++)
			put(fd, below(size), 1 + below(9000), name);
		if (i % 3 == 0 && ftruncate(fd, below(size)))
			die("truncate", name);
		if (i % 3 == 1)
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, below(size), 1 + below(300000));
		close(fd);
		put(base, below(size), 1 + below(4000), "base");
	}
	int parts = make("parts");
	/*
	 * Each part once: fsck.ocfs2 1.8.7 fails an assertion on a file that has one extent twice, a kernel's as well. A part is no
	 * less than a cluster, which a kernel shares as a whole.
	 */
	struct stat st;
	long part = fstat(base, &st) == 0 && st.st_blksize > 1 << 16 ? st.st_blksize : 1 << 16;
	for (int i = 0; i < 15 && (i + 1) * part <= size; i++)
		copy(base, i * part, parts, below(30) * part, part);
	close(parts);
	close(base);
	if (unlink("clone-2"))
		die("unlink", "clone-2");
	up();
}

static void xattr(void)
{
	char name[64], attr[300];

	in_dir("xattr");
	for (int f = 0; f < 24; f++) {
		snprintf(name, sizeof name, "file-%d", f);
		if (f % 4 == 3) {
			if (mkdir(name, 0755) && errno != EEXIST)
				die("mkdir", name);
		} else {
			int fd = make(name);
			put(fd, 0, below(3) == 0 ? 50 : 9000, name);
			close(fd);
		}
		int many = f < 12 ? 1 + f : f < 20 ? 40 : 3 * scale;
		for (int i = 0; i < many; i++) {
			static const char *const spaces[] = { "user.", "trusted.", "security.", "user." };
			snprintf(attr, sizeof attr, "%sattr-%ld%.*s", spaces[below(4)], below(many * 2),
				 (int)below(i % 7 == 0 ? 180 : 8),
				 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
				 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn");
			long n = below(10) == 0 ? below(f < 20 || max_xattr < 4000 ? max_xattr : 4000) : below(120);
			fill(n + 8);
			if (setxattr(name, attr, buffer, n, 0) == 0)
				continue;
			if (errno == ENOSPC || errno == E2BIG)
				continue;
			if (skipped("xattrs")) {
				up();
				return;
			}
			die("setxattr", attr);
		}
		for (int i = 0; i < many / 3; i++) {
			snprintf(attr, sizeof attr, "user.attr-%ld", below(many * 2));
			if (removexattr(name, attr) && errno != ENODATA)
				die("removexattr", attr);
		}
	}
	up();
}

static void special(void)
{
	struct timespec t[2] = { { 1000000000, 123456789 }, { -86400, 987654321 } };

	in_dir("special");
	if (mknod("fifo", S_IFIFO | 0600, 0) && errno != EEXIST)
		die("mknod", "fifo");
	if (mknod("char", S_IFCHR | 0640, makedev(10, 229)) && errno != EEXIST)
		die("mknod", "char");
	if (mknod("block", S_IFBLK | 0660, makedev(259, 70000)) && errno != EEXIST)
		die("mknod", "block");
	if (mknod("socket", S_IFSOCK | 0777, 0) && errno != EEXIST)
		die("mknod", "socket");
	int fd = make("modes");
	put(fd, 0, 10, "modes");
	close(fd);
	if (chown("modes", 12345, 54321) || chmod("modes", 06755))
		die("chmod", "modes");
	close(make("times"));
	if (utimensat(AT_FDCWD, "times", t, 0))
		die("utimensat", "times");
	if (mkdir("sticky", 01777) && errno != EEXIST)
		die("mkdir", "sticky");
	if (chmod("sticky", 03777))
		die("chmod", "sticky");
	up();
}

/* A folder with many entries, of which most go again. */
static void bigdir(void)
{
	char name[128];

	in_dir("bigdir");
	for (int i = 0; i < 30 * scale; i++) {
		snprintf(name, sizeof name, "an-entry-of-a-large-folder-%d", i);
		close(make(name));
	}
	for (int i = 0; i < 30 * scale; i++) {
		if (i % 3 == 0)
			continue;
		snprintf(name, sizeof name, "an-entry-of-a-large-folder-%d", i);
		if (unlink(name) && errno != ENOENT)
			die("unlink", name);
	}
	for (int i = 0; i < 3 * scale; i++) {
		snprintf(name, sizeof name, "new-%d", i);
		close(make(name));
	}
	up();
}

/* Appends in turn to many files, so that they lie between each other; every second one goes. */
static void churn(void)
{
	char name[64];

	in_dir("churn");
	for (int round = 0; round < 12; round++)
		for (int f = 0; f < 40; f++) {
			snprintf(name, sizeof name, "log-%d", f);
			int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
			long n = 1 + below(12000);
			fill(n);
			if (fd < 0 || write(fd, buffer, n) != n)
				die("append", name);
			if (f == 0)
				fsync(fd);
			close(fd);
		}
	for (int f = 0; f < 40; f += 2) {
		snprintf(name, sizeof name, "log-%d", f);
		if (unlink(name))
			die("unlink", name);
	}
	up();
}

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "names", names }, { "storm", storm }, { "sparse", sparse }, { "falloc", falloc }, { "reflink", reflink },
	{ "xattr", xattr }, { "special", special }, { "bigdir", bigdir }, { "churn", churn },
};

int main(int argc, char **argv)
{
	unsigned long seed = 1;
	int c;

	while ((c = getopt(argc, argv, "s:k:x:")) != -1)
		switch (c) {
		case 's': seed = strtoul(optarg, NULL, 0); break;
		case 'k': scale = strtol(optarg, NULL, 0); break;
		case 'x': max_xattr = strtol(optarg, NULL, 0); break;
		default: return 2;
		}
	if (optind >= argc || (buffer = malloc(BUFFER + 8)) == NULL || chdir(argv[optind]))
		die("chdir", optind < argc ? argv[optind] : "");
	umask(022);
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		int wanted = optind + 1 >= argc;
		for (int a = optind + 1; a < argc; a++)
			wanted |= strcmp(argv[a], parts[i].name) == 0;
		rng = seed * 0x9e3779b97f4a7c15ull + 77 + i;
		if (wanted)
			parts[i].run();
	}
	return 0;
}

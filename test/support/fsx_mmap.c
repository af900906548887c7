/*
 * fsx_mmap: random operations on one file, compared with a model in memory after each read.
 *
 * Reads and writes through read/write, through a shared mapping and through O_DIRECT meet in the same pages, with truncates, holes,
 * zeroed ranges, allocations and copy_file_range between them: whatever breaks the coherence of a page cache, a
 * write-back cache and direct I/O shows here as a byte that differs. The seed and the number of the operation repeat a failure.
 *
 * usage: fsx_mmap [-s seed] [-n ops] [-l max_size] [-d] [-m] [-c] [-f] [-q] [-F N] [-R N] [-P N] FILE
 *   -d no O_DIRECT, -m no mapping, -c no copy_file_range, -f no fallocate, -q no progress
 *   -F N  fsync after about each N-th operation (0: never); -R N  close and open again about each N-th
 *   -P N  planted faults: from operation N on a byte of the file changes now and then, and the model is not told
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGN 4096
#define LOG_LINES 200

static const char *path;
static int fd = -1, dfd = -1, cfd = -1;
static long max_size = 512 * 1024;
static unsigned char *model;   /* what the file must hold; zero behind its end */
static long size;              /* its size by the model */
static unsigned char *buffer;  /* aligned */
static unsigned long op;
static uint64_t rng;
static int use_direct = 1, use_map = 1, use_copy = 1, use_falloc = 1, quiet;
static long fsync_each = 60, reopen_each = 200, plant_at = -1;

static char log_lines[LOG_LINES][160];

static void note(const char *format, ...)
{
	va_list ap;
	int n = snprintf(log_lines[op % LOG_LINES], 40, "%lu: ", op);

	va_start(ap, format);
	vsnprintf(log_lines[op % LOG_LINES] + n, sizeof log_lines[0] - n, format, ap);
	va_end(ap);
}

static void fail(const char *format, ...)
{
	va_list ap;
	unsigned long first = op >= LOG_LINES ? op - LOG_LINES + 1 : 0;

	for (unsigned long i = first; i <= op; i++)
		fprintf(stderr, "%s\n", log_lines[i % LOG_LINES]);
	fprintf(stderr, "fsx_mmap: FAILED at operation %lu: ", op);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static uint32_t any(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 16);
}

static long below(long n)
{
	return n <= 0 ? 0 : (long)(((uint64_t)any() << 20 ^ any()) % (uint64_t)n);
}

static void open_all(void)
{
	fd = open(path, O_RDWR | O_CREAT, 0644);
	if (fd < 0)
		fail("open: %s", strerror(errno));
	if (use_direct) {
		dfd = open(path, O_RDWR | O_DIRECT);
		if (dfd < 0) {
			fprintf(stderr, "fsx_mmap: no O_DIRECT here: %s\n", strerror(errno));
			use_direct = 0;
		}
	}
}

static void close_all(void)
{
	if (dfd >= 0 && close(dfd))
		fail("close: %s", strerror(errno));
	if (close(fd))
		fail("close: %s", strerror(errno));
	fd = dfd = -1;
}

static void check_bytes(const char *what, long at, const unsigned char *got, long n)
{
	if (memcmp(got, model + at, n) == 0)
		return;
	long i = 0;
	while (got[i] == model[at + i])
		i++;
	long bad = 0, last = i;
	for (long j = i; j < n; j++)
		if (got[j] != model[at + j]) {
			bad++;
			last = j;
		}
	fail("%s: byte 0x%lx (%ld) is 0x%02x, should be 0x%02x; %ld bytes differ up to 0x%lx", what, at + i, at + i,
	     got[i], model[at + i], bad, at + last);
}

static void check_size(void)
{
	struct stat st;

	if (fstat(fd, &st))
		fail("fstat: %s", strerror(errno));
	if (st.st_size != size)
		fail("size is %ld, should be %ld", (long)st.st_size, size);
}

static void fill(unsigned char *to, long n)
{
	uint64_t x = ((uint64_t)any() << 32 | any()) | 1;

	for (long i = 0; i < n; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t v = x ^ (x >> 29);
		memcpy(to + i, &v, n - i < 8 ? n - i : 8);
	}
}

static void model_write(long at, const unsigned char *from, long n)
{
	memcpy(model + at, from, n);
	if (at + n > size)
		size = at + n;
}

/* A range: mostly small, sometimes large, sometimes aligned to pages. */
static void range(long limit, long *at, long *n)
{
	long longest = below(8) == 0 ? limit : below(2) ? 64 * 1024 : 9000;

	*at = below(limit);
	*n = 1 + below(longest);
	if (below(4) == 0) {
		*at &= ~(long)(ALIGN - 1);
		*n = (*n + ALIGN - 1) & ~(long)(ALIGN - 1);
	}
	if (*at + *n > limit)
		*n = limit - *at;
}

static void do_read(int direct)
{
	long at, n;

	if (size == 0)
		return;
	range(size, &at, &n);
	if (direct) {
		at &= ~(long)(ALIGN - 1);
		n = (n + ALIGN - 1) & ~(long)(ALIGN - 1);
	}
	note("%s 0x%lx+0x%lx (size 0x%lx)", direct ? "direct read" : "read", at, n, size);
	ssize_t got = pread(direct ? dfd : fd, buffer, n, at);
	if (got < 0)
		fail("read: %s", strerror(errno));
	long want = at + n > size ? size - at : n;
	if (got != want)
		fail("read %ld bytes, should be %ld", (long)got, want);
	check_bytes(direct ? "direct read" : "read", at, buffer, got);
}

static void do_write(int direct)
{
	long at, n;

	range(max_size, &at, &n);
	if (below(4) == 0)
		at = size < max_size - n ? size : at;
	if (direct) {
		at &= ~(long)(ALIGN - 1);
		n = (n + ALIGN - 1) & ~(long)(ALIGN - 1);
		if (at + n > max_size)
			n = (max_size - at) & ~(long)(ALIGN - 1);
	}
	if (n <= 0)
		return;
	note("%s 0x%lx+0x%lx (size 0x%lx)", direct ? "direct write" : "write", at, n, size);
	fill(buffer, n);
	ssize_t put = pwrite(direct ? dfd : fd, buffer, n, at);
	if (put != n)
		fail("wrote %ld of %ld bytes: %s", (long)put, n, strerror(errno));
	model_write(at, buffer, n);
}

static void do_map(int writing)
{
	long at, n;

	if (size == 0)
		return;
	range(size, &at, &n);
	long start = at & ~(long)(ALIGN - 1);
	note("%s 0x%lx+0x%lx (size 0x%lx)", writing ? "mapped write" : "mapped read", at, n, size);
	unsigned char *p = mmap(NULL, n + (at - start), PROT_READ | (writing ? PROT_WRITE : 0), MAP_SHARED, fd, start);
	if (p == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	if (writing) {
		fill(buffer, n);
		memcpy(p + (at - start), buffer, n);
		model_write(at, buffer, n);
		if (below(4) == 0 && msync(p, n + (at - start), MS_SYNC))
			fail("msync: %s", strerror(errno));
	} else {
		check_bytes("mapped read", at, p + (at - start), n);
		/* Behind the end of the file its last page reads as zeros. */
		long end = at + n, page_end = (end + ALIGN - 1) & ~(long)(ALIGN - 1);
		if (end == size)
			for (long i = end; i < page_end; i++)
				if (p[i - start] != 0)
					fail("mapped byte 0x%lx behind the end 0x%lx is 0x%02x", i, size, p[i - start]);
	}
	if (munmap(p, n + (at - start)))
		fail("munmap: %s", strerror(errno));
}

static void do_truncate(void)
{
	long to = below(3) == 0 ? below(max_size) : below(3) == 0 ? below(4096) : size / 2 + below(max_size - size / 2);

	note("truncate 0x%lx -> 0x%lx", size, to);
	if (ftruncate(fd, to))
		fail("ftruncate: %s", strerror(errno));
	if (to < size)
		memset(model + to, 0, size - to);
	size = to;
}

static void do_fallocate(void)
{
	static const struct {
		int mode;
		const char *name;
	} modes[] = {
		{ FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch" },
		{ FALLOC_FL_ZERO_RANGE, "zero" },
		{ FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, "zero (keep size)" },
		{ 0, "allocate" },
		{ FALLOC_FL_KEEP_SIZE, "allocate (keep size)" },
	};
	static int refused[5];
	int i = below(3) == 0 ? 0 : below(5);
	long at, n;

	if (refused[i])
		return;
	range(max_size, &at, &n);
	note("%s 0x%lx+0x%lx (size 0x%lx)", modes[i].name, at, n, size);
	if (fallocate(fd, modes[i].mode, at, n)) {
		if (errno != EOPNOTSUPP)
			fail("fallocate: %s", strerror(errno));
		fprintf(stderr, "fsx_mmap: no fallocate mode %d here\n", modes[i].mode);
		refused[i] = 1;
		return;
	}
	long end = at + n;
	if (i <= 2 && at < size)
		memset(model + at, 0, (end < size ? end : size) - at);
	if ((i == 1 || i == 3) && end > size)
		size = end;
}

static void do_copy(void)
{
	long at, n, to;

	if (size == 0)
		return;
	range(size, &at, &n);
	to = below(max_size - n);
	/* Whole clusters are what can be shared. */
	if (below(2) == 0) {
		long unit = below(2) ? 4096 : 65536;
		at &= ~(unit - 1);
		to &= ~(unit - 1);
		n = (n + unit - 1) & ~(unit - 1);
	}
	if (at + n > size)
		n = size - at;
	if (to + n > max_size)
		n = max_size - to;
	if (n <= 0 || (to < at + n && at < to + n))
		return;
	note("copy 0x%lx+0x%lx -> 0x%lx (size 0x%lx)", at, n, to, size);
	for (long done = 0; done < n;) {
		loff_t from = at + done, into = to + done;
		ssize_t got = copy_file_range(fd, &from, fd, &into, n - done, 0);
		if (got < 0 && done == 0 && (errno == EOPNOTSUPP || errno == EXDEV || errno == ENOSYS)) {
			fprintf(stderr, "fsx_mmap: no copy_file_range here: %s\n", strerror(errno));
			use_copy = 0;
			return;
		}
		if (got <= 0)
			fail("copy_file_range: %s after %ld bytes", got < 0 ? strerror(errno) : "nothing copied", done);
		done += got;
	}
	memcpy(buffer, model + at, n);
	model_write(to, buffer, n);
}

/* The whole file becomes another one, which shares its clusters if the file system can, and is then the one worked on. */
static void do_clone(void)
{
	char other[4096];

	if (size == 0)
		return;
	snprintf(other, sizeof other, "%s.clone", path);
	note("clone (size 0x%lx)", size);
	cfd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (cfd < 0)
		fail("open %s: %s", other, strerror(errno));
	for (long done = 0; done < size;) {
		loff_t from = done, into = done;
		ssize_t got = copy_file_range(fd, &from, cfd, &into, size - done, 0);
		if (got <= 0)
			fail("copy_file_range to a clone: %s", got < 0 ? strerror(errno) : "nothing copied");
		done += got;
	}
	close(cfd);
	/* The old file changes, and must not shine through; then it goes. */
	fill(buffer, 5000);
	if (pwrite(fd, buffer, size < 5000 ? size : 5000, below(size)) < 0)
		fail("write: %s", strerror(errno));
	close_all();
	if (rename(other, path))
		fail("rename: %s", strerror(errno));
	open_all();
}

/* One byte is another one than the model knows: what a file system that loses or mixes up a write would do. */
static void plant(void)
{
	long at = below(size);
	unsigned char byte = model[at] ^ 0x40;

	if (size > 0 && pwrite(fd, &byte, 1, at) != 1)
		fail("write of a planted byte: %s", strerror(errno));
}

static void check_all(const char *what)
{
	check_size();
	for (long at = 0; at < size; at += 1 << 20) {
		long n = size - at < 1 << 20 ? size - at : 1 << 20;
		if (pread(fd, buffer, n, at) != n)
			fail("%s: short read at 0x%lx", what, at);
		check_bytes(what, at, buffer, n);
	}
}

static void one(void)
{
	long k = below(100);

	if (k < 18)
		do_read(0);
	else if (k < 38)
		do_write(0);
	else if (k < 48) {
		if (use_map)
			do_map(0);
	} else if (k < 60) {
		if (use_map)
			do_map(1);
	} else if (k < 67) {
		if (use_direct)
			do_read(1);
	} else if (k < 75) {
		if (use_direct)
			do_write(1);
	} else if (k < 82)
		do_truncate();
	else if (k < 92) {
		if (use_falloc)
			do_fallocate();
	} else if (use_copy) {
		if (k == 99 && below(10) == 0)
			do_clone();
		else
			do_copy();
	}
}

int main(int argc, char **argv)
{
	unsigned long seed = 1, ops = 10000, start = 0;
	int c;

	while ((c = getopt(argc, argv, "s:n:l:dmcfqF:R:P:")) != -1)
		switch (c) {
		case 's': seed = strtoul(optarg, NULL, 0); break;
		case 'n': ops = strtoul(optarg, NULL, 0); break;
		case 'l': max_size = strtol(optarg, NULL, 0); break;
		case 'd': use_direct = 0; break;
		case 'm': use_map = 0; break;
		case 'c': use_copy = 0; break;
		case 'f': use_falloc = 0; break;
		case 'q': quiet = 1; break;
		case 'F': fsync_each = strtol(optarg, NULL, 0); break;
		case 'P': plant_at = strtol(optarg, NULL, 0); break;
		case 'R': reopen_each = strtol(optarg, NULL, 0); break;
		default:
			fprintf(stderr, "usage: fsx_mmap [-s seed] [-n ops] [-l max_size] [-dmcfq] [-F n] [-R n] [-P n] FILE\n");
			return 2;
		}
	if (optind >= argc) {
		fprintf(stderr, "fsx_mmap: which file?\n");
		return 2;
	}
	path = argv[optind];
	rng = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
	model = calloc(1, max_size + ALIGN);
	if (model == NULL || posix_memalign((void **)&buffer, ALIGN, max_size + (1 << 20) + 2 * ALIGN))
		fail("no memory");
	unlink(path);
	open_all();
	for (op = start; op < ops; op++) {
		if (plant_at >= 0 && (long)op >= plant_at && op % 10 == 0)
			plant();
		one();
		check_size();
		if (fsync_each > 0 && below(fsync_each) == 0 && (below(2) ? fsync(fd) : fdatasync(fd)))
			fail("fsync: %s", strerror(errno));
		if (reopen_each > 0 && below(reopen_each) == 0) {
			close_all();
			open_all();
			if (below(2) == 0)
				posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
			check_all("after opening again");
		}
		if (!quiet && op % 1000 == 999) {
			printf("%lu\n", op + 1);
			fflush(stdout);
		}
	}
	op = ops - 1;
	check_all("at the end");
	close_all();
	printf("fsx_mmap: %lu operations, seed %lu: no difference\n", ops, seed);
	return 0;
}

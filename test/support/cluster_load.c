/*
 * cluster_load: what a program of a cluster does to a volume that others use at the same time, checking all that it reads. Files that
 * are shared describe themselves (maker, number, length, contents that follow from these), and come to their names by rename, so whoever reads one must
 * find it whole, whatever died. Names collide on purpose.
 *
 * usage: cluster_load DIR NAME ACK SEED SECONDS
 *        DIR/s0.. shared folders, DIR/c* counters under flock, DIR/rec/NAME records, each fsynced
 *        ACK: a file that says after each fsync what may not be lost any more, and how many operations were done:
 *             "OPERATIONS RECORDS KEPT COUNTED\n", of a fixed length
 *        SECONDS 0: until there is a file ACK.stop
 * usage: cluster_load -c DIR NAME RECORDS KEPT      checks what NAME had been promised
 * exit: 0, 1 for what the system refused, 3 for contents that are wrong
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include "random.h"

#define DIRS 4
#define FILES 24
#define COUNTERS 3
#define HEAD 64
/* A read that takes all of it is whole blocks long, for O_DIRECT. */
#define LARGEST 300000
#define READ_ALL 307200
#define RECORD 64
#define COUNTER 8192

static const char *me, *at_op = "start";
static int ack_fd = -1, rec_fd = -1, counter_fd[COUNTERS];
static unsigned ops, records, kept, counted, made;
static unsigned char *buffer, *other;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void refused(const char *what, const char *name)
{
	printf("%s: %s: %s %s: %s\n", me, at_op, what, name, strerror(errno));
	exit(1);
}

static void wrong(const char *how, ...)
{
	va_list args;

	printf("%s: %s: WRONG: ", me, at_op);
	va_start(args, how);
	vprintf(how, args);
	va_end(args);
	putchar('\n');
	exit(3);
}

/* Others remove, rename and make what we are at. */
static int others_did(void)
{
	return errno == ENOENT || errno == EEXIST || errno == ENOTEMPTY || errno == EISDIR || errno == ENOTDIR;
}

/*
 * A kernel node refuses with EACCES when what a name stood for at its lookup is not what it finds under the locks (ocfs2_rename: "disagree"),
 * beside kernel nodes as beside ours.
 */
static int others_renamed(void)
{
	return others_did() || errno == EACCES;
}

static uint64_t seed_of(const char *name, unsigned n)
{
	uint64_t h = 1469598103934665603ull;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 1099511628211ull;
	return (h ^ n) * 1099511628211ull | 1;
}

/* A whole file of `len` bytes: its head, and what follows from it. */
static void compose(unsigned char *to, const char *name, unsigned n, unsigned len)
{
	uint64_t x = seed_of(name, n);

	memset(to, 0, HEAD);
	snprintf((char *)to, HEAD, "load %s %u %u\n", name, n, len);
	for (unsigned i = HEAD; i < len; i += 8) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(to + i, &x, 8);
	}
}

static void judge(const unsigned char *got, long len, const char *path)
{
	char name[40];
	unsigned n, claimed;

	if (len < HEAD || sscanf((const char *)got, "load %39s %u %u", name, &n, &claimed) != 3)
		wrong("%s: %ld bytes with no head", path, len);
	if (claimed != len)
		wrong("%s: %ld bytes, made by %s (%u) with %u", path, len, name, n, claimed);
	compose(other, name, n, claimed);
	if (memcmp(got, other, len) == 0)
		return;
	long i = 0, last = len - 1;
	while (got[i] == other[i])
		i++;
	while (got[last] == other[last])
		last--;
	wrong("%s: made by %s (%u), %ld bytes: differs from %ld to %ld, found %02x for %02x", path, name, n, len, i, last, got[i],
	      other[i]);
}

static void ack(void)
{
	char text[RECORD];

	snprintf(text, sizeof text, "%10u %10u %10u %10u\n", ops, records, kept, counted);
	/* Through a kernel node's hostfs it must leave the node, too. */
	if (ack_fd >= 0 && (pwrite(ack_fd, text, 44, 0) != 44 || fsync(ack_fd)))
		refused("ack", "");
}

static const char *shared(char *path)
{
	sprintf(path, "s%ld/f%02ld", below(DIRS), below(FILES));
	return path;
}

static unsigned some_length(void)
{
	switch (below(4)) {
	case 0:
		return HEAD + below(1500);
	case 1:
		return HEAD + below(20000);
	case 2:
		return 4096 * (1 + below(8));
	default:
		return HEAD + below(LARGEST - HEAD);
	}
}

static void put(int fd, unsigned len, const char *path)
{
	/* Direct writes go in whole blocks, from an aligned buffer. */
	for (unsigned done = 0; done < len;) {
		unsigned n = below(2) ? len - done : 1 + below(len - done);
		long w = pwrite(fd, buffer + done, n, done);
		if (w < 0)
			refused("write", path);
		done += w;
	}
}

static void publish(void)
{
	char tmp[80], path[40];
	unsigned len = some_length();
	int direct = len % 4096 == 0 && below(2);

	at_op = "publish";
	shared(path);
	sprintf(tmp, "s%ld/.%s", below(DIRS), me);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0), 0644);
	if (fd < 0)
		refused("create", tmp);
	compose(buffer, me, ++made, len);
	if (direct) {
		if (pwrite(fd, buffer, len, 0) != len)
			refused("direct write", tmp);
	} else
		put(fd, len, tmp);
	if (below(8) == 0 && fsync(fd))
		refused("fsync", tmp);
	close(fd);
	if (rename(tmp, path)) {
		if (!others_renamed())
			refused("rename to", path);
		unlink(tmp);
	}
}

static void verify(void)
{
	char path[40];
	struct stat st;
	int direct = below(4) == 0;

	at_op = direct ? "direct read" : "read";
	shared(path);
	int fd = open(path, O_RDONLY | (direct ? O_DIRECT : 0));
	if (fd < 0) {
		if (!others_did())
			refused("open", path);
		return;
	}
	long len = pread(fd, buffer, READ_ALL, 0);
	if (len < 0 && errno != EISDIR)
		refused("read", path);
	if (fstat(fd, &st))
		refused("fstat", path);
	if (S_ISREG(st.st_mode) && len >= 0) {
		judge(buffer, len, path);
		if (st.st_size != len)
			wrong("%s: %ld bytes, and stat says %ld", path, len, (long)st.st_size);
	}
	close(fd);
}

static void mapped(void)
{
	char path[40];
	struct stat st;

	at_op = "mapped read";
	shared(path);
	int fd = open(path, O_RDONLY);
	if (fd < 0) {
		if (!others_did())
			refused("open", path);
		return;
	}
	if (fstat(fd, &st))
		refused("fstat", path);
	if (S_ISREG(st.st_mode)) {
		void *m = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		if (m == MAP_FAILED)
			refused("mmap", path);
		memcpy(buffer, m, st.st_size);
		munmap(m, st.st_size);
		judge(buffer, st.st_size, path);
	}
	close(fd);
}

static void names(void)
{
	char from[40], to[40];

	shared(from);
	shared(to);
	switch (below(4)) {
	case 0:
		at_op = "rename";
		if (rename(from, to) && !others_renamed())
			refused(from, to);
		break;
	case 1:
		at_op = "link";
		if (link(from, to) && !others_did() && errno != EPERM)
			refused(from, to);
		break;
	default:
		at_op = "unlink";
		if (unlink(from) && !others_did())
			refused("", from);
	}
}

static void folders(void)
{
	char path[40], in[60];

	at_op = "folders";
	sprintf(path, "s%ld/d%ld", below(DIRS), below(3));
	sprintf(in, "%s/x%ld", path, below(4));
	switch (below(4)) {
	case 0:
		if (mkdir(path, 0755) && !others_did())
			refused("mkdir", path);
		break;
	case 1:
		if (rmdir(path) && !others_did())
			refused("rmdir", path);
		break;
	case 2:
		if (unlink(in) && !others_did())
			refused("unlink", in);
		break;
	default: {
		int fd = open(in, O_WRONLY | O_CREAT, 0644);
		if (fd >= 0)
			close(fd);
		else if (!others_did())
			refused("create", in);
	}
	}
}

static void list(void)
{
	char path[20], name[300];
	struct dirent *e;
	struct stat st;

	at_op = "list";
	sprintf(path, "s%ld", below(DIRS));
	DIR *d = opendir(path);
	if (d == NULL)
		refused("opendir", path);
	for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		if (lstat(name, &st) && !others_did())
			refused("stat", name);
	}
	if (errno)
		refused("readdir", path);
	closedir(d);
}

static void attributes(void)
{
	char path[40], name[30];

	at_op = "xattr";
	shared(path);
	snprintf(name, sizeof name, "user.x%ld", below(4));
	if (below(3) == 0) {
		/* The value says how long it is and repeats one letter. */
		static char value[20000];
		unsigned len = 8 + below(below(2) ? 60 : sizeof value - 8);
		memset(value, 'a' + len % 26, len);
		snprintf(value, 8, "%07u", len);
		value[7] = ' ';
		if (setxattr(path, name, value, len, 0) && !others_did() && errno != ENOSPC && errno != EPERM)
			refused("setxattr", path);
		return;
	}
	static char got[65536];
	ssize_t len = getxattr(path, name, got, sizeof got);
	if (len < 0) {
		if (!others_did() && errno != ENODATA)
			refused("getxattr", path);
		return;
	}
	got[len < (ssize_t)sizeof got ? len : (ssize_t)sizeof got - 1] = 0;
	if (len < 8 || atol(got) != len)
		wrong("%s: %s has %zd bytes and says %.7s", path, name, len, got);
	for (ssize_t i = 8; i < len; i++)
		if (got[i] != 'a' + len % 26)
			wrong("%s: %s, byte %zd of %zd is %02x", path, name, i, len, got[i] & 255);
}

/* A number at both ends of two blocks, under flock: read, checked, moved on; written, mapped or direct. */
static void count(void)
{
	int which = below(COUNTERS), fd = counter_fd[which], how = below(3);
	uint64_t *word = (uint64_t *)buffer, last = COUNTER / 8 - 1;

	at_op = "flock";
	if (flock(fd, LOCK_EX))
		refused("lock", "counter");
	at_op = "count";
	if (pread(fd, buffer, COUNTER, 0) != COUNTER)
		refused("read", "counter");
	if (word[0] != word[last] || word[1] != seed_of("counter", (unsigned)word[0]))
		wrong("counter %d: %llu at its start, %llu at its end, %llx for %llx", which, (unsigned long long)word[0],
		      (unsigned long long)word[last], (unsigned long long)word[1],
		      (unsigned long long)seed_of("counter", (unsigned)word[0]));
	word[0]++;
	word[1] = seed_of("counter", (unsigned)word[0]);
	word[last] = word[0];
	if (how == 0) {
		at_op = "count mapped";
		uint64_t *m = mmap(NULL, COUNTER, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (m == MAP_FAILED)
			refused("mmap", "counter");
		if (m[0] + 1 != word[0])
			wrong("counter %d: read %llu, mapped %llu", which, (unsigned long long)word[0] - 1, (unsigned long long)m[0]);
		memcpy(m, word, COUNTER);
		munmap(m, COUNTER);
	} else if (pwrite(fd, buffer, COUNTER, 0) != COUNTER)
		refused("write", "counter");
	counted++;
	at_op = "unlock";
	if (flock(fd, LOCK_UN))
		refused("unlock", "counter");
}

static void record(void)
{
	char text[RECORD + 1];

	at_op = "record";
	snprintf(text, sizeof text, "%-30s %10u %*s", me, records + 1, RECORD - 44, "");
	text[RECORD - 1] = '\n';
	if (write(rec_fd, text, RECORD) != RECORD || fsync(rec_fd))
		refused("append", "record");
	records++;
	if (records % 8 == 0) {
		char path[100];
		unsigned len = some_length();
		at_op = "keep";
		sprintf(path, "rec/%s-%u", me, kept + 1);
		compose(buffer, path + 4, 1, len);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644), dir = open("rec", O_RDONLY);
		if (fd < 0 || dir < 0)
			refused("create", path);
		put(fd, len, path);
		if (fsync(fd) || fsync(dir))
			refused("fsync", path);
		close(fd);
		close(dir);
		kept++;
	}
	ack();
}

static int check(char **argv)
{
	unsigned want_records = atoi(argv[1]), want_kept = atoi(argv[2]), n = 0;
	char path[100], text[RECORD + 1], name[40];
	ssize_t len;

	me = argv[0];
	at_op = "check";
	sprintf(path, "rec/%s", me);
	int fd = open(path, O_RDONLY);
	if (fd < 0 && want_records > 0)
		refused("open", path);
	while (fd >= 0 && (len = read(fd, text, RECORD)) == RECORD) {
		unsigned number = 0;
		text[RECORD] = 0;
		if (sscanf(text, "%39s %u", name, &number) != 2 || strcmp(name, me) || number != n + 1) {
			if (n < want_records)
				wrong("%s: record %u reads \"%.44s\"", path, n + 1, text);
			break;
		}
		n++;
	}
	if (n < want_records)
		wrong("%s: %u records of %u that were fsynced", path, n, want_records);
	for (unsigned i = 1; i <= want_kept; i++) {
		sprintf(path, "rec/%s-%u", me, i);
		int f = open(path, O_RDONLY);
		if (f < 0)
			wrong("%s, which was fsynced: %s", path, strerror(errno));
		len = pread(f, buffer, READ_ALL, 0);
		judge(buffer, len, path);
		close(f);
	}
	printf("%u %u\n", n, want_kept);
	return 0;
}

static void counters(void)
{
	char path[20];

	for (int i = 0; i < COUNTERS; i++) {
		sprintf(path, "c%d", i);
		/* One is read and written past the page cache. */
		int fd = open(path, O_RDWR | O_CREAT | (i == 0 ? O_DIRECT : 0), 0644);
		if (fd < 0 || flock(fd, LOCK_EX))
			refused("open", path);
		struct stat st;
		if (fstat(fd, &st))
			refused("stat", path);
		if (st.st_size == 0) {
			memset(buffer, 0, COUNTER);
			((uint64_t *)buffer)[1] = seed_of("counter", 0);
			if (pwrite(fd, buffer, COUNTER, 0) != COUNTER || fsync(fd))
				refused("write", path);
		}
		flock(fd, LOCK_UN);
		counter_fd[i] = fd;
	}
}

int main(int argc, char **argv)
{
	char path[100], stop[400];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (posix_memalign((void **)&buffer, 4096, LARGEST + 16384) || posix_memalign((void **)&other, 4096, LARGEST + 16384))
		return 1;
	if (argc == 6 && strcmp(argv[1], "-c") == 0) {
		me = argv[3];
		if (chdir(argv[2]))
			refused("chdir", argv[2]);
		return check(argv + 3);
	}
	if (argc != 6)
		return 2;
	me = argv[2];
	rng = seed_of(argv[2], (unsigned)atoi(argv[4]));
	ack_fd = open(argv[3], O_WRONLY | O_CREAT, 0644);
	if (ack_fd < 0)
		refused("open", argv[3]);
	if (chdir(argv[1]))
		refused("chdir", argv[1]);
	for (int i = 0; i < DIRS; i++) {
		sprintf(path, "s%d", i);
		if (mkdir(path, 0755) && errno != EEXIST)
			refused("mkdir", path);
	}
	if (mkdir("rec", 0755) && errno != EEXIST)
		refused("mkdir", "rec");
	sprintf(path, "rec/%s", me);
	rec_fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (rec_fd < 0)
		refused("create", path);
	counters();
	double end = now() + atof(argv[5]), said = 0;
	snprintf(stop, sizeof stop, "%s.stop", argv[3]);
	for (int endless = atof(argv[5]) == 0; endless || now() < end; ops++) {
		uint32_t dice = below(100);
		if (dice < 22)
			publish();
		else if (dice < 50)
			verify();
		else if (dice < 56)
			mapped();
		else if (dice < 68)
			names();
		else if (dice < 74)
			folders();
		else if (dice < 78)
			list();
		else if (dice < 86)
			attributes();
		else if (dice < 92)
			count();
		else
			record();
		if (now() - said > 0.2) {
			ack();
			said = now();
			if (access(stop, F_OK) == 0)
				break;
		}
	}
	ack();
	return 0;
}

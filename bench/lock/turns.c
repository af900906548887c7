/*
 * What a lock costs, seen by a program. Two of these run on two nodes, ours or the kernel's alike, and take turns: a byte over TCP says
 * whose turn it is, and only what a node does in its own turn is timed. So the way of that byte, and whatever the machine does to
 * wake a process, is in no figure.
 *
 * turns a|b ADDRESS VOLUME-DIR DLMFS-DIR TURNS PART: side a listens at ADDRESS. Prints one line a measurement: its name, then
 * nanoseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PORT 7999

static int turns;
static int sock;
static char side;

static void die(const char *what) {
	fprintf(stderr, "side %c: %s: %s\n", side, what, strerror(errno));
	exit(1);
}

static long now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void say(void) {
	if (write(sock, "", 1) != 1)
		die("the other side went");
}

static void hear(void) {
	char c;
	if (read(sock, &c, 1) != 1)
		die("the other side went");
}

/* Both sides have come to this point. */
static void meet(void) {
	say();
	hear();
}

static void connect_sides(const char *address) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int one = 1;
	if (inet_aton(address, &at.sin_addr) == 0)
		die("address");
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (side == 'a') {
		setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(s, (struct sockaddr *)&at, sizeof at) < 0 || listen(s, 1) < 0)
			die("listen");
		sock = accept(s, NULL, NULL);
		if (sock < 0)
			die("accept");
		close(s);
	} else {
		long from = now_ns();
		while (connect(s, (struct sockaddr *)&at, sizeof at) < 0) {
			/* The other side may not be there yet. */
			if (errno != ECONNREFUSED || now_ns() - from > 30 * 1000000000L)
				die("connect");
			usleep(20000);
		}
		sock = s;
	}
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Measurements ------------------------------------------------------------------------------------------------------ */

struct samples {
	const char *name;
	long *ns;
	int n;
};

static struct samples all[64];
static int measured;

static struct samples *measure(const char *name) {
	struct samples *s = &all[measured++];
	s->name = name;
	s->ns = calloc(turns, sizeof *s->ns);
	return s;
}

static void print_samples(void) {
	for (int i = 0; i < measured; i++) {
		if (all[i].n == 0)
			continue;
		printf("%s", all[i].name);
		for (int j = 0; j < all[i].n; j++)
			printf(" %ld", all[i].ns[j]);
		printf("\n");
	}
}

typedef void (*step)(int i);

/* `turns` times a's step and then b's; those that have a name are timed. */
static void take_turns(const char *name_a, step a, const char *name_b, step b) {
	const char *name = side == 'a' ? name_a : name_b;
	step mine = side == 'a' ? a : b;
	struct samples *s = name ? measure(name) : NULL;
	meet();
	for (int i = 0; i < turns; i++) {
		if (side == 'b')
			hear();
		long from = now_ns();
		if (mine)
			mine(i);
		if (s)
			s->ns[s->n++] = now_ns() - from;
		say();
		if (side == 'a')
			hear();
	}
	meet();
}

/* Side a alone, `times` in one sample. */
static void alone(const char *name, step a, int times) {
	meet();
	if (side == 'a') {
		struct samples *s = measure(name);
		for (int i = 0; i < times; i++)
			a(i);
		for (int i = 0; i < turns; i++) {
			long from = now_ns();
			for (int j = 0; j < times; j++)
				a(i);
			s->ns[s->n++] = (now_ns() - from) / times;
		}
	}
	meet();
}

static void nothing(int i) { (void)i; }

/* Locks as files ---------------------------------------------------------------------------------------------------- */

static const char *dlm_dir;
static const char *lock_letter;

static int open_lock(int i, int flags) {
	char path[4096];
	snprintf(path, sizeof path, "%s/%s%d", dlm_dir, lock_letter, i);
	int fd = open(path, flags);
	if (fd < 0)
		die(path);
	return fd;
}

static void make_locks(const char *letter, int n) {
	char path[4096];
	lock_letter = letter;
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/%s%d", dlm_dir, letter, i);
		if (mknod(path, S_IFREG | 0644, 0) < 0)
			die(path);
		/* Neither the name nor its inode is new when the lock is asked for. */
		struct stat st;
		if (stat(path, &st) < 0)
			die(path);
	}
	meet();
}

static void drop_locks(const char *letter, int n) {
	char path[4096];
	meet();
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/%s%d", dlm_dir, letter, i);
		if (unlink(path) < 0)
			die(path);
	}
	meet();
}

static void lock_pr(int i) { close(open_lock(i, O_RDONLY)); }
static void lock_ex(int i) { close(open_lock(i, O_RDWR)); }
static void same_ex(int i) { (void)i; lock_ex(0); }
static void same_pr(int i) { (void)i; lock_pr(0); }

static void cached_locks(void) {
	make_locks("c", 1);
	alone("lock.cached_ex", same_ex, 20);
	alone("lock.cached_pr", same_pr, 20);
	drop_locks("c", 1);
}

static void new_locks(void) {
	/* Nobody has it; a becomes its master. Then b asks for it at a level that a's does not stand against. */
	make_locks("n", turns);
	take_turns("lock.new_local", lock_pr, "lock.new_remote", lock_pr);
	/* Both have it at PR. b, then a, wants EX: once the holder is the master, once the asker. */
	take_turns(NULL, nothing, "lock.up_holder_is_master", lock_ex);
	take_turns(NULL, lock_pr, NULL, lock_pr);
	take_turns("lock.up_asker_is_master", lock_ex, NULL, nothing);
	drop_locks("n", turns);
}

static void one_lock(void) {
	make_locks("p", 1);
	take_turns(NULL, same_ex, NULL, same_ex);
	take_turns("lock.pingpong", same_ex, "lock.pingpong", same_ex);
	drop_locks("p", 1);
}

/* A shared volume --------------------------------------------------------------------------------------------------- */

static const char *volume_dir;
static int shared_fd;

static const char *path_of(const char *letter, int i) {
	static char path[4096];
	snprintf(path, sizeof path, "%s/%s%d", volume_dir, letter, i);
	return path;
}

static void make_file(int i) {
	const char *path = path_of("f", i);
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (fd < 0)
		die(path);
	close(fd);
}

static void stat_file(int i) {
	struct stat st;
	const char *path = path_of("f", i);
	if (stat(path, &st) < 0)
		die(path);
}

static void write_file(int i) {
	const char *path = path_of("f", i);
	int fd = open(path, O_WRONLY);
	if (fd < 0 || pwrite(fd, "x", 1, 0) != 1)
		die(path);
	close(fd);
}

static void stat_shared(int i) {
	struct stat st;
	(void)i;
	if (fstat(shared_fd, &st) < 0)
		die("fstat");
}

static void write_shared(int i) {
	(void)i;
	if (pwrite(shared_fd, "x", 1, 100 + (side == 'b')) != 1)
		die("pwrite");
}

/* A counter that both count up: what one reads is what the other has written, or the end is wrong. */
static void count_shared(int i) {
	unsigned n;
	(void)i;
	if (pread(shared_fd, &n, sizeof n, 0) != sizeof n)
		die("pread");
	n++;
	if (pwrite(shared_fd, &n, sizeof n, 0) != sizeof n)
		die("pwrite");
}

static void read_shared(int i) {
	unsigned n;
	(void)i;
	if (pread(shared_fd, &n, sizeof n, 0) != sizeof n)
		die("pread");
}

static void open_shared(void) {
	static const char zeros[4096];
	const char *path = path_of("shared", 0);
	if (side == 'a') {
		int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0 || write(fd, zeros, sizeof zeros) != sizeof zeros)
			die(path);
		close(fd);
	}
	meet();
	shared_fd = open(path, O_RDWR);
	if (shared_fd < 0)
		die(path);
	meet();
}

static void close_shared(void) {
	close(shared_fd);
	meet();
	if (side == 'a')
		unlink(path_of("shared", 0));
	meet();
}

static void cached_file(void) {
	open_shared();
	alone("file.cached_write", write_shared, 20);
	alone("file.cached_stat", stat_shared, 20);
	close_shared();
}

static void shared_file(void) {
	unsigned n;
	open_shared();
	take_turns("file.pingpong", count_shared, "file.pingpong", count_shared);
	read_shared(0);
	if (pread(shared_fd, &n, sizeof n, 0) != sizeof n || n != 2u * turns) {
		fprintf(stderr, "side %c: the counter stands at %u, not at %u\n", side, n, 2 * turns);
		exit(1);
	}
	close_shared();
}

static void read_file(void) {
	open_shared();
	take_turns("file.write_what_other_reads", write_shared, "file.read_what_other_writes", read_shared);
	close_shared();
}

static void many_files(void) {
	take_turns("file.create", make_file, NULL, nothing);
	take_turns(NULL, nothing, "file.stat_of_others", stat_file);
	take_turns(NULL, stat_file, NULL, stat_file);
	take_turns(NULL, nothing, "file.write_to_others", write_file);
	if (side == 'a')
		for (int i = 0; i < turns; i++)
			unlink(path_of("f", i));
	meet();
}

static void round_trip(void) {
	struct samples *trip = side == 'a' ? measure("tcp_round_trip") : NULL;
	for (int i = 0; i < turns; i++) {
		long from = now_ns();
		if (side == 'b')
			hear();
		say();
		if (side == 'a') {
			hear();
			trip->ns[trip->n++] = now_ns() - from;
		}
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{"round-trip", round_trip},   {"cached-locks", cached_locks}, {"new-locks", new_locks},   {"one-lock", one_lock},
	{"cached-file", cached_file}, {"shared-file", shared_file},   {"read-file", read_file},   {"many-files", many_files},
};

int main(int argc, char **argv) {
	if (argc != 7) {
		fprintf(stderr, "usage: turns a|b ADDRESS VOLUME-DIR DLMFS-DIR TURNS PART\n");
		return 2;
	}
	side = argv[1][0];
	volume_dir = argv[3];
	dlm_dir = argv[4];
	turns = atoi(argv[5]);
	connect_sides(argv[2]);
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
		if (strcmp(argv[6], parts[i].name) == 0)
			parts[i].run();
	print_samples();
	return 0;
}

/*
 * stall_disk: one node's way to a shared disk, which can be stalled. Serves IMAGE as the file FILE (a FUSE mount on that file, from which requests go
 * straight to the image), and holds every read and write from "stall" on, as a disk behind a dead path does.
 *
 * usage: stall_disk IMAGE FILE; commands on standard input, one a line, each answered by one line:
 *   stall    requests are held from now on                                      "stalled"
 *   go       what is held is done, and all that comes                           "going N": N requests were held
 *   fail     what is held is answered EIO, as by a driver whose time is up; whatever comes later is refused and
 *            counted             "failed N W MS": N were held, W of them writes, the last of these came MS after the stall
 *   refuse FROM TO: writes outside of these bytes of the disk fail from now on, all else is done    "refusing"
 *   late     writes that came after "fail"                                      "late N"
 *   last     when the last write came, in ms of CLOCK_BOOTTIME                  "last MS"
 * Says "ready" first. Ends with its input, and takes the mount away.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define MOST (1 << 20)
/* The payload of a WRITE begins on a page. */
#define FRONT (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

enum { GO, STALL, FAIL, REFUSE };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int mode = GO, held, held_writes, late;
static double stalled_at, last_write, last_came;
/* The bytes that may be written while others are refused. */
static uint64_t spared_from, spared_to;
/* What is held, in the order in which it came. */
static struct waiting {
	struct waiting *next;
	unsigned char *request;
} *first, **last = &first;
static int fuse, direct, buffered;

static void reply(uint64_t unique, int err, const void *data, size_t len)
{
	struct fuse_out_header head = { .len = sizeof head + (err ? 0 : len), .error = err, .unique = unique };
	struct iovec v[2] = { { &head, sizeof head }, { (void *)data, err ? 0 : len } };

	/* ENOENT: the request was taken back. */
	if (writev(fuse, v, 2) < 0 && errno != ENOENT)
		perror("stall_disk: reply");
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static int is_write(uint32_t opcode)
{
	return opcode == FUSE_WRITE || opcode == FUSE_FALLOCATE;
}

static unsigned char *request_buffer(void)
{
	void *p;

	if (posix_memalign(&p, 4096, 4096 + MOST + 4096))
		exit(1);
	return (unsigned char *)p + 4096 - FRONT;
}

static int is_spared(struct fuse_in_header *h)
{
	struct fuse_write_in *in = (void *)(h + 1);

	return h->opcode == FUSE_WRITE && in->offset >= spared_from && in->offset + in->size <= spared_to;
}

/* 0: the request may go to the disk. Held: it is kept for later. */
enum { HELD = 1 };
static int gate(struct fuse_in_header *h)
{
	int err = 0;

	pthread_mutex_lock(&lock);
	if (is_write(h->opcode))
		last_came = now_ms();
	if (mode == FAIL) {
		late += is_write(h->opcode);
		err = -EIO;
	} else if (mode == REFUSE) {
		if (is_write(h->opcode) && !is_spared(h))
			err = -EIO;
	} else if (mode == STALL) {
		struct waiting *w = malloc(sizeof *w);
		if (w == NULL)
			exit(1);
		w->next = NULL;
		w->request = request_buffer();
		memcpy(w->request, h, h->len);
		*last = w;
		last = &w->next;
		held++;
		if (is_write(h->opcode)) {
			held_writes++;
			last_write = now_ms() - stalled_at;
		}
		err = HELD;
	}
	pthread_mutex_unlock(&lock);
	return err;
}

static int fd_for(uint64_t off, uint64_t len)
{
	return off % 512 == 0 && len % 512 == 0 ? direct : buffered;
}

static void attr_of(struct fuse_attr *a)
{
	struct stat st;

	fstat(direct, &st);
	memset(a, 0, sizeof *a);
	a->ino = 1;
	a->size = st.st_size;
	a->blocks = st.st_blocks;
	a->mode = S_IFREG | 0600;
	a->nlink = 1;
	a->blksize = 4096;
}

static void serve(struct fuse_in_header *h, unsigned char *out)
{
	void *arg = h + 1;
	int err;

	switch (h->opcode) {
	case FUSE_INIT: {
		struct fuse_init_in *in = arg;
		struct fuse_init_out o = { .major = 7, .minor = in->minor < 31 ? in->minor : 31 };
		o.max_readahead = 0;
		o.flags = in->flags & (FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES);
		o.max_background = 65535;
		o.congestion_threshold = 65535;
		o.max_write = MOST;
		o.max_pages = MOST / 4096;
		o.time_gran = 1;
		reply(h->unique, 0, &o, sizeof o);
		return;
	}
	case FUSE_GETATTR:
	case FUSE_SETATTR: {
		struct fuse_attr_out o = { .attr_valid = 0 };
		attr_of(&o.attr);
		reply(h->unique, 0, &o, sizeof o);
		return;
	}
	case FUSE_OPEN: {
		struct fuse_open_out o = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };
		reply(h->unique, 0, &o, sizeof o);
		return;
	}
	case FUSE_READ: {
		struct fuse_read_in *in = arg;
		if ((err = gate(h)) == HELD)
			return;
		ssize_t n = err ? err : pread(fd_for(in->offset, in->size), out, in->size, in->offset);
		reply(h->unique, n < 0 ? (err ? err : -errno) : 0, out, n < 0 ? 0 : n);
		return;
	}
	case FUSE_WRITE: {
		struct fuse_write_in *in = arg;
		struct fuse_write_out o = { 0 };
		if ((err = gate(h)) == HELD)
			return;
		ssize_t n = err ? err : pwrite(fd_for(in->offset, in->size), in + 1, in->size, in->offset);
		o.size = n < 0 ? 0 : n;
		reply(h->unique, n < 0 ? (err ? err : -errno) : 0, &o, sizeof o);
		return;
	}
	case FUSE_FSYNC:
		/*
		 * A disk without a cache of its own. One that is held would keep the file's lock in the kernel, and writes that were
		 * submitted behind it would come when it is let go, from a process that is long dead.
		 */
		reply(h->unique, -ENOSYS, NULL, 0);
		return;
	case FUSE_FALLOCATE: {
		struct fuse_fallocate_in *in = arg;
		if ((err = gate(h)) == HELD)
			return;
		reply(h->unique, err ? err : fallocate(direct, in->mode, in->offset, in->length) ? -errno : 0, NULL, 0);
		return;
	}
	case FUSE_RELEASE:
	case FUSE_FLUSH:
	case FUSE_DESTROY:
		reply(h->unique, 0, NULL, 0);
		return;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return;
	default:
		reply(h->unique, -ENOSYS, NULL, 0);
	}
}

static void *run(void *unused)
{
	unsigned char *in = request_buffer(), *out;

	(void)unused;
	if (posix_memalign((void **)&out, 4096, MOST))
		exit(1);
	for (;;) {
		ssize_t n = read(fuse, in, FRONT + MOST);
		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
			continue;
		if (n < 0)
			exit(errno == ENODEV ? 0 : 1);
		serve((void *)in, out);
	}
}

/* What was held goes its way, as the mode now says. */
static void let_go(unsigned char *out)
{
	struct waiting *all = first;
	int refused = late;

	first = NULL;
	last = &first;
	while (all != NULL) {
		struct waiting *next = all->next;
		serve((void *)all->request, out);
		free(all->request - (4096 - FRONT));
		free(all);
		all = next;
	}
	/* These do not count as late. */
	late = refused;
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[100], options[200];
	uintmax_t from, to;
	unsigned char *out;
	pthread_t thread;

	if (argc != 3)
		return 2;
	direct = open(argv[1], O_RDWR | O_DIRECT);
	buffered = open(argv[1], O_RDWR);
	fuse = open("/dev/fuse", O_RDWR);
	if (direct < 0 || buffered < 0 || fuse < 0) {
		perror("stall_disk: open");
		return 1;
	}
	sprintf(options, "fd=%d,rootmode=100000,user_id=0,group_id=0,allow_other", fuse);
	if (mount("stall_disk", argv[2], "fuse.stall_disk", MS_NOSUID | MS_NODEV, options)) {
		perror("stall_disk: mount");
		return 1;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&thread, NULL, run, NULL);
	say("ready");
	if (posix_memalign((void **)&out, 4096, MOST))
		return 1;
	while (fgets(line, sizeof line, stdin) != NULL) {
		char text[100] = "unknown";
		if (strcmp(line, "stall\n") == 0) {
			pthread_mutex_lock(&lock);
			mode = STALL;
			held = held_writes = 0;
			last_write = 0;
			stalled_at = now_ms();
			pthread_mutex_unlock(&lock);
			strcpy(text, "stalled");
		} else if (strcmp(line, "go\n") == 0 || strcmp(line, "fail\n") == 0) {
			pthread_mutex_lock(&lock);
			mode = line[0] == 'g' ? GO : FAIL;
			late = 0;
			pthread_mutex_unlock(&lock);
			let_go(out);
			if (line[0] == 'g')
				sprintf(text, "going %d", held);
			else
				sprintf(text, "failed %d %d %.0f", held, held_writes, last_write);
		} else if (sscanf(line, "refuse %ju %ju", &from, &to) == 2) {
			pthread_mutex_lock(&lock);
			spared_from = from;
			spared_to = to;
			mode = REFUSE;
			pthread_mutex_unlock(&lock);
			strcpy(text, "refusing");
		} else if (strcmp(line, "late\n") == 0)
			sprintf(text, "late %d", late);
		else if (strcmp(line, "last\n") == 0)
			sprintf(text, "last %.3f", last_came);
		say(text);
	}
	umount2(argv[2], MNT_DETACH);
	return 0;
}

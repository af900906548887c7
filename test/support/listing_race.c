/*
 * listing_race: some processes list a folder over and over, while others look its names up as often.
 *
 * usage: listing_race DIR NAMES MS
 * Makes NAMES files in DIR first. Fails when a name is not there, or when a process has not ended 10 s after its time: it stands still.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LISTING 3
#define LOOKING 3
#define GRACE_MS 10000

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* True when all names are listed. */
static int list(int names)
{
	DIR *dir = opendir(".");
	int n = 0;

	if (dir == NULL)
		return 0;
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
		n += e->d_name[0] == 'f';
	closedir(dir);
	return n == names;
}

/* True when the names are there, beginning at another one each time. */
static int look(int names, int first)
{
	for (int i = 0; i < names; i++) {
		char name[16];
		struct stat st;

		snprintf(name, sizeof name, "f%d", (first + i) % names);
		if (stat(name, &st))
			return 0;
	}
	return 1;
}

int main(int argc, char **argv)
{
	pid_t child[LISTING + LOOKING];
	int failed = 0;

	if (argc != 4 || chdir(argv[1])) {
		perror("usage: listing_race DIR NAMES MS");
		return 2;
	}
	int names = atoi(argv[2]);
	for (int i = 0; i < names; i++) {
		char name[16];

		snprintf(name, sizeof name, "f%d", i);
		int fd = open(name, O_CREAT | O_WRONLY, 0644);
		if (fd < 0) {
			perror(name);
			return 2;
		}
		close(fd);
	}
	long end = now_ms() + atol(argv[3]);
	for (int c = 0; c < LISTING + LOOKING; c++) {
		child[c] = fork();
		if (child[c] != 0)
			continue;
		/* Whoever reads what this program says must not wait for a child that never ends. */
		close(1);
		close(2);
		for (int round = 0; now_ms() < end; round++)
			if (!(c < LISTING ? list(names) : look(names, round * 7 + c)))
				_exit(1);
		_exit(0);
	}
	for (int c = 0; c < LISTING + LOOKING; c++) {
		const char *what = c < LISTING ? "lists" : "looks names up";
		struct timespec tick = { 0, 10000000 };
		int status = 0;
		pid_t ended = 0;

		while ((ended = waitpid(child[c], &status, WNOHANG)) == 0 && now_ms() < end + GRACE_MS)
			nanosleep(&tick, NULL);
		if (ended == child[c] && status == 0)
			continue;
		failed = 1;
		fprintf(stderr, ended == 0 ? "who %s stands still\n" : "who %s misses a name\n", what);
		kill(child[c], SIGKILL);
	}
	return failed;
}

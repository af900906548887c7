/*
 * getcwd_race: asks for the path of the current folder over and over, while a child looks that path up as often.
 *
 * usage: getcwd_race DIR WARM_MS MS
 * What is seen in the first WARM_MS does not count. Prints how often the path was asked for, and how often there was none.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	char path[4096];
	unsigned long asked = 0, none = 0;

	if (argc != 4 || chdir(argv[1])) {
		perror("usage: getcwd_race DIR WARM_MS MS");
		return 2;
	}
	pid_t child = fork();
	if (child == 0)
		for (;;) {
			struct stat st;
			if (stat(argv[1], &st))
				_exit(1);
		}
	long begin = now_ms() + atol(argv[2]), end = begin + atol(argv[3]);
	for (long now = now_ms(); now < end; now = now_ms()) {
		char *got = getcwd(path, sizeof path);
		if (now < begin)
			continue;
		asked++;
		if (got == NULL) {
			if (errno != ENOENT) {
				perror("getcwd");
				return 2;
			}
			none++;
		}
	}
	int status;
	if (waitpid(child, &status, WNOHANG) != 0) {
		fprintf(stderr, "%s could not be looked up\n", argv[1]);
		return 2;
	}
	kill(child, SIGKILL);
	printf("%lu %lu\n", asked, none);
	return 0;
}

/* Makes a mounted volume larger within its last cluster group, as tunefs.ocfs2 -S does: group_extend DIR CLUSTERS. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define OCFS2_IOC_GROUP_EXTEND _IOW('o', 1, int)

int main(int argc, char **argv)
{
	int clusters = argc == 3 ? atoi(argv[2]) : 0;
	int fd = clusters > 0 ? open(argv[1], O_RDONLY) : -1;

	if (fd < 0 || ioctl(fd, OCFS2_IOC_GROUP_EXTEND, &clusters) < 0) {
		perror("group_extend");
		return 1;
	}
	return 0;
}

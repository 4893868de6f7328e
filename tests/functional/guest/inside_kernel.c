/* SPDX-License-Identifier: Apache-2.0 */
/* inside_kernel.c - a whole root file system: says what the agent has made of its machine */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && !fsync(fd) &&
	       !close(fd);
}

static int loopback_is_up(void)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons(9001),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return !connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&at, sizeof(at));
}

int main(int argc, char **argv)
{
	char name[65] = "", code[64] = "";
	FILE *f = fopen("code", "r"); /* the working directory is /var/task */

	gethostname(name, sizeof(name));
	printf("hostname %s\n", name);
	if (argc > 1 && !strcmp(argv[1], "hostname"))
		return 0;
	printf("task: %s", f && fgets(code, sizeof(code), f) ? code : "none\n");
	printf("root is %s\n", write_to("/written", "by the guest\n") ? "writable" : "read-only");
	printf("tmp is %s\n", write_to("/tmp/written", "x") ? "writable" : "read-only");
	printf("loopback is %s\n", loopback_is_up() ? "up" : "down");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* modules.c - the kernel's modules in the initramfs */
#include "guest/agent/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest/agent/note.h"
#include "guest/agent/text_file.h"

static void load(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
		note("module %s does not load: error %d", path, errno);
	unlink(path);
}

void modules_load(const char *dir)
{
	char path[128], names[2048], *save = NULL;

	snprintf(path, sizeof(path), "%s/order", dir);
	if (text_file_read(path, names, sizeof(names)) < 0)
		return; /* a kernel that needs none */
	unlink(path);
	for (char *name = strtok_r(names, "\n", &save); name; name = strtok_r(NULL, "\n", &save)) {
		snprintf(path, sizeof(path), "%s/%s.ko", dir, name);
		load(path);
	}
	rmdir(dir);
}

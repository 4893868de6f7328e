/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - unpacker: the parsers of archives, in a process of their own (include/unpacker_abi.h)
 *
 * What is uploaded may be made to break a parser. Here that costs one upload: the process has no
 * file but its two descriptors, no network, no capability and few system calls, and its memory and
 * time end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/util.h"
#include "common/version.h"
#include "include/erofs_super.h"
#include "include/unpacker_abi.h"
#include "snapd/code.h"
#include "snapd/unpacker/erofs.h"
#include "snapd/unpacker/oci.h"
#include "snapd/unpacker/unpack.h"
#include "snapd/unpacker/zip.h"

enum { MEMORY_MAX = 1 << 30, CPU_SECONDS_MAX = 600, FDS_MAX = 128 };

static const char usage_text[] =
	"Usage: unpacker zip|oci|pack|disk\n"
	"\n"
	"snapd starts it for each archive: it unpacks a zip file or an OCI image layout, or\n"
	"packs a directory, or makes a disk of it, in a jail of its own. It reads from\n"
	"descriptor 3, writes to descriptor 4 and says how it went on descriptor 5; people\n"
	"have no use for it.\n"
	"\n"
	"  --help     this text\n"
	"  --version  which Quickthaw this is\n";

static int set_limits(void)
{
	static const struct {
		__rlimit_resource_t what;
		rlim_t max;
	} limits[] = {
		{RLIMIT_CPU, CPU_SECONDS_MAX},
		{RLIMIT_NOFILE, FDS_MAX},
		{RLIMIT_FSIZE, EROFS_IMAGE_BYTES_MAX}, /* the largest that is made */
		{RLIMIT_CORE, 0},
#ifndef __SANITIZE_ADDRESS__ /* whose shadow takes terabytes of addresses */
		{RLIMIT_AS, MEMORY_MAX},
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (setrlimit(limits[i].what, &(struct rlimit){limits[i].max, limits[i].max}))
			return -errno;
	return 0;
}

static int job_zip(struct unpack *u)
{
	struct stat st;
	void *zip;
	int ret;

	if (fstat(UNPACKER_FD_FROM, &st) || st.st_size <= 0)
		return unpack_refuse(u, -EINVAL, NULL, "Uploaded file must be a non-empty zip");
	zip = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, UNPACKER_FD_FROM, 0);
	if (zip == MAP_FAILED)
		return unpack_refuse(u, -errno, NULL, "%s", strerror(errno));
	ret = zip_unpack(zip, (size_t)st.st_size, u);
	munmap(zip, (size_t)st.st_size);
	return ret;
}

static int job_oci(struct unpack *u)
{
	return oci_unpack(UNPACKER_FD_FROM, u);
}

static int job_pack(struct unpack *u)
{
	int ret = zip_pack(UNPACKER_FD_FROM, UNPACKER_FD_TO);

	return ret ? unpack_refuse(u, ret, NULL, "%s", strerror(-ret)) : 0;
}

static int job_disk(struct unpack *u)
{
	return erofs_pack(u, UNPACKER_FD_FROM, UNPACKER_FD_TO);
}

static const struct job {
	const char *name;
	int (*run)(struct unpack *u);
	bool read_all; /* an image is read as root reads */
} jobs[] = {
	{UNPACKER_JOB_ZIP, job_zip, false},
	{UNPACKER_JOB_OCI, job_oci, true},
	{UNPACKER_JOB_PACK, job_pack, true},
	{UNPACKER_JOB_DISK, job_disk, false},
};

static const struct job *job_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
		if (!strcmp(jobs[i].name, name))
			return &jobs[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const struct job *job = argc == 2 ? job_of(argv[1]) : NULL;
	struct unpacker_result result = {0};
	struct unpack u;

	log_init("unpacker", NULL);
	if (version_asked("unpacker", argc, argv))
		return 0;
	if (!job) {
		bool help = argc == 2 && !strcmp(argv[1], "--help");

		fputs(usage_text, help ? stdout : stderr);
		return help ? 0 : 2;
	}
	/* Nobody is left to hear of it without snapd. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || set_limits() ||
	    sandbox_confine(&(struct sandbox_confinement){
		    .stage = SANDBOX_STAGE_UNPACK,
		    .fds = {{UNPACKER_FD_FROM, true}, {UNPACKER_FD_TO, false}},
		    .fd_count = 2,
		    .read_all = job->read_all,
	    }))
		return 1;
	unpack_begin(&u, UNPACKER_FD_TO, CODE_BYTES_MAX);
	result.err = job->run(&u);
	result.bytes = u.bytes;
	memcpy(result.error, u.error, sizeof(result.error));
	/* At once: what libc and sanitizers do at an end is not on the list. */
	return (int)syscall(SYS_exit_group,
			    write_full(UNPACKER_FD_RESULT, &result, sizeof(result)) ? 1 : 0);
}

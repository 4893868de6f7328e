/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_costs.c - what the machine's own operations cost, and the bound that follows from them
 *
 * A restore cannot be faster than reading what is stored, decoding it, placing it and mapping the
 * pages that the guest touches:
 *
 *   T >= T_vm + T_first_read + max(stored / BW_disk, working_set / (cores * BW_lz4),
 *                                  working_set / BW_memcpy) + pages * T_map
 *
 * T_vm is 0 here: shells are made ahead. A resident restore reads and decodes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <lz4.h>
#include <lz4hc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/cases.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/util.h"

enum {
	ROUNDS = 9,
	CHUNK_BYTES = 65536,
	CHUNKS = 64,
	FILE_BYTES = 32 << 20,
	READ_BYTES = 1 << 20,
	COPY_BYTES = 8 << 20,
	MAP_PAGES = 1024,
};

static double elapsed_us(uint64_t begin_ns)
{
	return (double)(clock_mono_ns() - begin_ns) / 1e3;
}

/** Of several rounds the fastest counts: a bound is what the machine can do. */
static void best_rate(double *best, double bytes, uint64_t begin_ns)
{
	*best = MAX(*best, bytes / (elapsed_us(begin_ns) / 1e6));
}

static int create_vm_us(double *ret)
{
	static struct samples us;
	CLEANUP_FD int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	us.n = 0;
	if (kvm < 0)
		return -errno;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t begin_ns = clock_mono_ns();
		CLEANUP_FD int vm = ioctl(kvm, KVM_CREATE_VM, 0);

		if (vm < 0)
			return -errno;
		samples_add(&us, elapsed_us(begin_ns));
		usleep(20000); /* closing a young VM waits; that is not what is measured */
	}
	*ret = samples_percentile(&us, 50);
	return 0;
}

static int write_test_file(const char *path)
{
	CLEANUP_FREE uint8_t *data = malloc(READ_BYTES);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int ret = data && fd >= 0 ? 0 : -ENOMEM;

	for (size_t i = 0; data && i < READ_BYTES; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int i = 0; !ret && i < FILE_BYTES / READ_BYTES; i++)
		ret = write_full(fd, data, READ_BYTES);
	if (!ret && fsync(fd) < 0)
		ret = -errno;
	return ret;
}

/** Latency of one 4 KiB read and bandwidth of 1 MiB reads, past the page cache where that can be.
 */
static int disk_costs(const char *path, double *ret_first_us, double *ret_bytes_per_s)
{
	static struct samples us;
	CLEANUP_FREE void *buf = NULL;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t begin_ns;

	us.n = 0;
	if (fd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || posix_memalign(&buf, 4096, READ_BYTES))
		return -errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (int i = 0; i < ROUNDS * 4; i++) {
		begin_ns = clock_mono_ns();
		if (pread(fd, buf, 4096, (off_t)(i * 7919 % 8192) * 4096) != 4096)
			return -EIO;
		samples_add(&us, elapsed_us(begin_ns));
	}
	*ret_first_us = samples_percentile(&us, 50);
	begin_ns = clock_mono_ns();
	for (int i = 0; i < FILE_BYTES / READ_BYTES; i++)
		if (pread(fd, buf, READ_BYTES, (off_t)i * READ_BYTES) != READ_BYTES)
			return -EIO;
	*ret_bytes_per_s = FILE_BYTES / (elapsed_us(begin_ns) / 1e6);
	return 0;
}

/** LZ4 decode rate over the interpreter's own file: the kind of data that snapshots hold. */
static int lz4_rate(double *ret_bytes_per_s)
{
	CLEANUP_FREE char *src = NULL, *packed = malloc((size_t)CHUNKS * CHUNK_BYTES * 2);
	CLEANUP_FREE char *out = malloc(CHUNK_BYTES);
	int sizes[CHUNKS], chunks = 0;
	size_t n = 0;

	if (read_file(AT_FDCWD, "/usr/bin/python3", 64 << 20, &src, &n) || !packed || !out)
		return -ENOENT;
	for (; chunks < CHUNKS && (size_t)(chunks + 1) * CHUNK_BYTES <= n; chunks++)
		sizes[chunks] = LZ4_compress_HC(src + (size_t)chunks * CHUNK_BYTES,
						packed + (size_t)chunks * CHUNK_BYTES * 2,
						CHUNK_BYTES, CHUNK_BYTES * 2, 9);
	if (!chunks)
		return -ENOENT;
	*ret_bytes_per_s = 0;
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begin_ns = clock_mono_ns();

		for (int i = 0; i < chunks; i++)
			if (LZ4_decompress_safe(packed + (size_t)i * CHUNK_BYTES * 2, out, sizes[i],
						CHUNK_BYTES) != CHUNK_BYTES)
				return -EBADMSG;
		best_rate(ret_bytes_per_s, (double)chunks * CHUNK_BYTES, begin_ns);
	}
	return 0;
}

static int memcpy_rate(double *ret_bytes_per_s)
{
	CLEANUP_FREE char *a = malloc(COPY_BYTES), *b = malloc(COPY_BYTES);

	if (!a || !b)
		return -ENOMEM;
	memset(a, 1, COPY_BYTES);
	memset(b, 2, COPY_BYTES);
	*ret_bytes_per_s = 0;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t begin_ns = clock_mono_ns();

		memcpy(b, a, COPY_BYTES);
		__asm__ volatile("" : : "r"(b) : "memory");
		best_rate(ret_bytes_per_s, COPY_BYTES, begin_ns);
	}
	return 0;
}

/** Mapping one page of a filled template: to read it, and to own a copy of it. */
static int map_costs(double *ret_read_us, double *ret_copy_us)
{
	CLEANUP_FD int fd = memfd_create("bench", MFD_CLOEXEC);
	size_t bytes = (size_t)MAP_PAGES * PAGE_BYTES;
	uint64_t begin_ns;
	void *map;

	if (fd < 0 || fallocate(fd, 0, 0, (off_t)bytes) < 0)
		return -errno;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	begin_ns = clock_mono_ns();
	if (madvise(map, bytes, MADV_POPULATE_READ) < 0)
		return -errno;
	*ret_read_us = elapsed_us(begin_ns) / MAP_PAGES;
	begin_ns = clock_mono_ns();
	if (madvise(map, bytes, MADV_POPULATE_WRITE) < 0)
		return -errno;
	*ret_copy_us = elapsed_us(begin_ns) / MAP_PAGES;
	munmap(map, bytes);
	return 0;
}

/* ---- what the host is ---- */

/** The kind, as the vmm finds it by running a guest. */
static void describe_kind(struct bench *b)
{
	char command[320], line[256] = "";
	json_t *root;
	FILE *f;

	snprintf(command, sizeof(command), "'%s/vmm' host", b->bin_dir);
	f = popen(command, "r");
	if (!f)
		return;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	pclose(f);
	root = json_loads(line, 0, NULL);
	if (json_is_string(json_object_get(root, "kind")))
		results_host_text(&b->results, "kind",
				  json_string_value(json_object_get(root, "kind")));
	json_decref(root);
}

static void describe_cpu(struct bench *b)
{
	CLEANUP_FREE char *text = NULL;
	char *at;

	if (read_file(AT_FDCWD, "/proc/cpuinfo", 1 << 22, &text, NULL))
		return;
	at = strstr(text, "model name");
	at = at ? strchr(at, ':') : NULL;
	if (!at)
		return;
	at += strspn(at, ": \t");
	at[strcspn(at, "\n")] = '\0';
	results_host_text(&b->results, "cpu", at);
}

void host_describe(struct bench *b)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct utsname uts;
	double load = 0;

	describe_kind(b);
	describe_cpu(b);
	if (!uname(&uts))
		results_host_text(&b->results, "kernel", uts.release);
	results_host(&b->results, "cpus", (double)cpus);
	if (getenv("HWKVM")) /* scripts/hwkvm says so */
		json_object_set_new(b->results.host, "emulated", json_true());
	if (getloadavg(&load, 1) == 1)
		results_host(&b->results, "load_before", load);
	if (load > (double)cpus / 2)
		fprintf(stderr,
			"bench: this machine is busy (load %.1f on %ld CPUs): times will be "
			"long and scattered\n",
			load, cpus);
}

/* ---- what it costs ---- */

int host_costs_measure(struct bench *b)
{
	double vm_us = 0, first_us = 0, disk = 0, lz4 = 0, copy = 0, read_us = 0, copy_us = 0;
	char path[256];
	int ret;

	fprintf(stderr, "bench: what this host's operations cost\n");
	snprintf(path, sizeof(path), "%s/bench.io", b->build_dir);
	ret = create_vm_us(&vm_us);
	if (!ret)
		ret = write_test_file(path);
	if (!ret)
		ret = disk_costs(path, &first_us, &disk);
	unlink(path);
	if (!ret)
		ret = lz4_rate(&lz4);
	if (!ret)
		ret = memcpy_rate(&copy);
	if (!ret)
		ret = map_costs(&read_us, &copy_us);
	if (ret) {
		fprintf(stderr, "bench: host costs: %s\n", strerror(-ret));
		return ret;
	}
	results_host(&b->results, "kvm_create_vm_us", vm_us);
	results_host(&b->results, "first_read_4k_us", first_us);
	results_host(&b->results, "disk_bytes_per_s", disk);
	results_host(&b->results, "lz4_decode_bytes_per_s", lz4);
	results_host(&b->results, "memcpy_bytes_per_s", copy);
	results_host(&b->results, "map_page_us", read_us);
	results_host(&b->results, "copy_page_us", copy_us);
	return 0;
}

static double host(const struct bench *b, const char *name)
{
	return json_number_value(json_object_get(b->results.host, name));
}

static void bound_row(struct bench *b, const char *name, double bound_ms)
{
	struct row_key key = {"bound", "", "hello-python", "process", "bound", "ms"};
	char row[64];
	double measured = results_p50(&b->results, name, "quickthaw", "hello-python");

	if (isnan(measured) || !(bound_ms > 0))
		return;
	snprintf(row, sizeof(row), "%s.bound", name);
	key.name = row;
	results_add_value(&b->results, &key, bound_ms);
	snprintf(row, sizeof(row), "%s.measured_to_bound", name);
	key.unit = "ratio";
	results_add_value(&b->results, &key, measured / bound_ms);
}

void bound_add(struct bench *b)
{
	double stored = results_p50(&b->results, "cold_restore.read", "quickthaw", "hello-python");
	double pages = results_p50(&b->results, "working_set", "quickthaw", "hello-python");
	double bytes = pages * PAGE_BYTES, map_ms = pages * host(b, "map_page_us") / 1e3;
	double place;

	if (isnan(stored) || isnan(pages))
		return;
	place = MAX(stored / host(b, "disk_bytes_per_s"),
		    bytes / (host(b, "cpus") * host(b, "lz4_decode_bytes_per_s")));
	place = MAX(place, bytes / host(b, "memcpy_bytes_per_s"));
	bound_row(b, "cold_restore", host(b, "first_read_4k_us") / 1e3 + place * 1e3 + map_ms);
	bound_row(b, "resident_restore", map_ms);
}

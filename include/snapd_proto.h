/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapd_proto.h - what snapd and a vmm say to each other, about a guest of either kind
 *
 * One AF_UNIX SOCK_SEQPACKET socket per vmm, descriptor VMM_CONTROL_FD. Every message is one
 * struct proto_header, then its fixed body, then (where the body says so) bytes. Descriptors come
 * by SCM_RIGHTS with the message. A payload of more than PROTO_INLINE_MAX bytes travels as a
 * sealed memfd instead of bytes.
 *
 *   snapd                                        vmm
 *     |            (spawned, jailed)              |  creates VM, vCPUs, slots, userfaultfd
 *     | <------------------------------ HELLO fd  |  shell is ready
 *     |                                           |
 *     |  BOOT fds ------------------------------> |  cold boot, until the runtime waits
 *     | <------------------------------- LOG ...  |  (any time: guest's stdout and stderr)
 *     | <---------------------------------- READY |  parked at its first /next or /restore/next
 *     |  CAPTURE fds ---------------------------> |  machine and memory go into the file, and
 *     | <------------------------------- CAPTURED |  the guest can go on
 *     |                                           |
 *     |  RESTORE fds ---------------------------> |  (instead of BOOT) maps the template, loads
 *     |  START argv, envp ----------------------> |  of a base: becomes a function, as by BOOT
 *     |  INVOKE --------------------------------> |  may follow RESTORE or BOOT at once
 *     | <------------------------ RESULT_PART ... |  of a response that is streamed, if wanted so
 *     | <--------------------------------- RESULT |  one for each INVOKE
 *     |  INVOKE ... RESULT                        |  as often as wanted, one at a time
 *     |  TRACE_WORKING_SET ---------------------> |  which pages did it touch and write
 *     | <------------------------ WORKING_SET fd  |
 *     |                                           |
 *     | <---------------------------------- FAILED|  the instance is over: why, with a report
 *     |  close -----------------------------------|  vmm exits at once when the last copy of
 *     |                                           |  snapd's end closes, whatever its guest does
 *
 * Both sides treat the other as hostile: lengths, counts and descriptors are checked on arrival and
 * a breach ends the instance. Integers are host-endian: both ends are on one host.
 */
#ifndef QUICKTHAW_SNAPD_PROTO_H
#define QUICKTHAW_SNAPD_PROTO_H

#include <stdint.h>

#define PROTO_VERSION	  6u
#define VMM_CONTROL_FD	  3
#define PROTO_MESSAGE_MAX (128u << 10)
#define PROTO_INLINE_MAX  (64u << 10)
/** Lambda: 6 MiB for a synchronous request or response payload. */
#define PROTO_PAYLOAD_MAX (6u << 20)
/** Lambda: 200 MB for a response that is streamed. */
#define PROTO_STREAM_MAX (200u << 20)

enum proto_type {
	PROTO_HELLO = 1,
	PROTO_BOOT,
	PROTO_RESTORE,
	PROTO_READY,
	PROTO_CAPTURE,
	PROTO_CAPTURED,
	PROTO_INVOKE,
	PROTO_RESULT,
	PROTO_LOG,
	PROTO_TRACE_WORKING_SET,
	PROTO_WORKING_SET,
	PROTO_FAILED,
	PROTO_RESULT_PART,
	PROTO_START,
};

struct proto_header {
	uint32_t type;	/**< enum proto_type */
	uint32_t bytes; /**< of the whole message, this header included */
};

/** The largest machine of a kernel guest: its RAM ends below the devices' addresses. */
#define PROTO_KERNEL_RAM_MAX_MIB 3072u
#define PROTO_KERNEL_VCPUS_MAX	 4u

/** How the vmm found KVM on this host. */
enum proto_host_kind { PROTO_HOST_HARDWARE = 1, PROTO_HOST_PVM = 2 };

/** HELLO, vmm to snapd. Descriptor: [0] userfaultfd (API done, nothing registered yet). */
struct proto_hello {
	struct proto_header h;
	uint32_t version; /**< PROTO_VERSION */
	uint32_t host_kind;
	uint64_t ram_base; /**< start of the RAM mapping in the vmm's address space; faults are
				relative to it */
	uint64_t ram_bytes;
	uint64_t cpu_features[8]; /**< what there is on this host, for the restore check */
	uint64_t state_version;	  /**< of what this vmm saves: it restores no other */
	uint32_t guest_kind;	  /**< enum guest_kind: what it can become */
	uint32_t vcpus;
};

/** Directories that a process guest sees: one descriptor each (O_PATH). */
enum proto_dir {
	PROTO_DIR_ROOT,	   /**< / : the runtime's root file system */
	PROTO_DIR_TASK,	   /**< /var/task : the function's code */
	PROTO_DIR_RUNTIME, /**< /var/runtime : Quickthaw's bootstraps */
	PROTO_DIR_OPT,	   /**< /opt : the function's layers, merged; empty without any */
	PROTO_DIR_COUNT
};

/** Disks of a kernel guest, in the order in which it finds them: one descriptor each, of an image
 * that is opened for reading only. */
enum proto_disk {
	PROTO_DISK_ROOT, /**< /dev/vda, / : the runtime's root file system, bootstraps included */
	PROTO_DISK_TASK, /**< /dev/vdb, /var/task : the function's code */
	PROTO_DISK_OPT,	 /**< /dev/vdc, /opt : its layers, merged; empty without any */
	PROTO_DISK_COUNT
};

/**
 * BOOT, snapd to vmm. Descriptors of a process guest: [0..PROTO_DIR_COUNT) directories; of a kernel
 * guest: [0..PROTO_DISK_COUNT) disks, then the kernel, then the initramfs.
 * After the body: argv strings, then envp strings, each NUL-terminated.
 *
 * A kernel guest for which argc is 0 becomes a base: nothing is started in it, READY comes when its
 * agent is there, and its snapshot is what functions are made of (RESTORE, START). Of its disks it
 * has PROTO_DISK_ROOT alone; the drives of the others are empty.
 */
struct proto_boot {
	struct proto_header h;
	uint64_t memory_bytes; /**< the function's limit, without /tmp; a kernel guest has the RAM
				    of its shell, and takes /tmp from that */
	uint64_t tmp_bytes;    /**< the limit of /tmp of a process guest */
	uint32_t argc;
	uint32_t envc;
};

/**
 * RESTORE, snapd to vmm. Descriptors: the directories or disks of a BOOT, then template memfd, then
 * state memfd (sealed): the STATE section at 0, then @populate_count struct proto_populate.
 * The drives that were empty when a base was captured get the images that come here.
 */
struct proto_restore {
	struct proto_header h;
	uint64_t template_pages;
	uint64_t state_bytes;
	uint32_t populate_count; /**< runs to populate ahead of the guest; 0 while the
				      template is not filled yet */
	uint32_t reserved;
};

/** A run of pages of the working set. */
struct proto_populate {
	uint32_t page;
	uint32_t count_flags; /**< bit 31: make it private ahead; the rest: pages */
};
#define PROTO_POPULATE_WRITE 0x80000000u

/** START, snapd to vmm, after the RESTORE of a base: what is to run in it. After the body: strings
 * as in BOOT. */
struct proto_start {
	struct proto_header h;
	uint32_t argc; /**< at least 1 */
	uint32_t envc;
};

/** READY, vmm to snapd: parked in /next after init (or after the restore hooks); a base: its agent
 * is there. */
struct proto_ready {
	struct proto_header h;
	uint64_t init_ns;	 /**< from BOOT or RESTORE to here */
	uint64_t resident_pages; /**< RAM pages in use by the guest */
	uint32_t waits_restore;	 /**< 1: parked in /restore/next, 0: in /next */
	uint32_t reserved;
};

/** CAPTURE, snapd to vmm. Descriptors: [0] empty file to write the snapshot into, [1]
 * /proc/PID/pagemap of the vmm, [2] for a diff its base: the snapshot, in one file, that the guest
 * was restored from. Bytes: of a diff the name, NUL-terminated, that its base has beside it; then
 * metadata JSON to store. */
struct proto_capture {
	struct proto_header h;
	uint32_t base_name_bytes; /**< its NUL included; 0: no diff */
	uint32_t reserved;
};

/** CAPTURED, vmm to snapd. */
struct proto_captured {
	struct proto_header h;
	int32_t error; /**< 0 or -errno; the file is of no use then */
	uint32_t reserved;
	uint64_t capture_ns;
	uint64_t resident_pages; /**< in use, zeros included, but for those of a diff's base */
	uint64_t stored_pages;
	uint64_t file_bytes;
	uint64_t cpu_features[8]; /**< what the guest saw of the CPU, by its baseline; see HELLO */
};

/**
 * INVOKE, snapd to vmm. Payload: after the strings, or descriptor [0] if payload_fd.
 * After the body: request id, function ARN, trace id, client context (may be empty), each
 * NUL-terminated, then payload_bytes bytes unless payload_fd.
 */
struct proto_invoke {
	struct proto_header h;
	uint64_t deadline_real_ms; /**< Lambda-Runtime-Deadline-Ms */
	uint32_t payload_bytes;
	uint32_t payload_fd; /**< 1: the payload is a memfd */
	uint32_t serial;     /**< its RESULT has the same: an answer is to one question */
	uint32_t stream;     /**< 1: RESULT_PARTs are wanted, where the runtime streams */
};

enum proto_result_kind {
	PROTO_RESULT_OK = 0,
	PROTO_RESULT_ERROR = 1,	    /**< the function reported an error (JSON error shape) */
	PROTO_RESULT_TOO_LARGE = 2, /**< the response was over 6 MiB, or 200 MiB in parts */
	/** It failed while it was streaming. Payload: the runtime's trailers, error type and error
	 * body (base64 of JSON), each NUL-terminated. */
	PROTO_RESULT_STREAM_ERROR = 3,
};

/**
 * RESULT_PART, vmm to snapd: bytes of a response as the runtime sends them. The RESULT after the
 * last one has no payload, or that of PROTO_RESULT_STREAM_ERROR. snapd reads no more of them than
 * its client does, and the vmm, which blocks then, no more of its guest.
 */
struct proto_result_part {
	struct proto_header h;
	uint32_t serial; /**< of the INVOKE */
	uint32_t reserved;
	/* bytes, PROTO_INLINE_MAX at most */
};

/** RESULT, vmm to snapd. Payload like INVOKE's. */
struct proto_result {
	struct proto_header h;
	uint32_t kind;
	uint32_t payload_bytes;
	uint32_t payload_fd;
	uint32_t serial;     /**< of the INVOKE */
	uint64_t run_ns;     /**< from INVOKE's arrival (or the restore's end) to the response */
	uint64_t restore_ns; /**< RESTORE's arrival to the first guest instruction; 0 if none
				pending */
	uint64_t resident_pages; /**< guest pages in use: Max Memory Used; 0: the vmm does not know
				      (a kernel guest's), snapd looks at the process */
	uint64_t exits;		 /**< KVM exits since the last result */
};

/** LOG, vmm to snapd: bytes that the guest wrote to stdout or stderr. */
struct proto_log {
	struct proto_header h;
	uint32_t stream; /**< 1 or 2 */
	uint32_t reserved;
	/* bytes */
};

/** TRACE_WORKING_SET, snapd to vmm. Descriptor: [0] /proc/PID/pagemap of the vmm, whose jail has no
 * /proc. */
struct proto_trace_working_set {
	struct proto_header h;
};

/** WORKING_SET, vmm to snapd. Descriptor: [0] sealed memfd with one byte a template page: bit 0
 * touched, bit 1 written, or worth a copy ahead for another reason: then bit 0 is set, too. */
struct proto_working_set {
	struct proto_header h;
	uint64_t template_pages;
};

enum proto_failure {
	PROTO_FAILED_EXIT = 1,	  /**< the guest program exited; code = exit status */
	PROTO_FAILED_SIGNAL = 2,  /**< killed by a signal; code = signal */
	PROTO_FAILED_MEMORY = 3,  /**< over its memory limit */
	PROTO_FAILED_INIT = 4,	  /**< the runtime reported an init error; text is its JSON */
	PROTO_FAILED_RESTORE = 5, /**< the runtime reported a restore error; text is its JSON */
	PROTO_FAILED_VMM = 6,	  /**< the vmm could not go on: KVM, protocol, bad state */
	PROTO_FAILED_KERNEL = 7,  /**< the guest's kernel panicked, crashed, reset or turned the
				       machine off; text says how */
};

/** FAILED, vmm to snapd, its last message. Bytes: a report for people (or Lambda error JSON). */
struct proto_failed {
	struct proto_header h;
	uint32_t reason; /**< enum proto_failure */
	int32_t code;
	/* bytes */
};

#endif

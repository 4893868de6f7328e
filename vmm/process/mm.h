/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mm.h - the address space of a process guest
 *
 * The guest's page tables are built by the vmm in guest RAM. A page is present in them once it was
 * touched (or brought in around a touched one); VMAs say what an absent page would be. Frames are
 * pages of RAM, handed out lowest first and counted: a frame may be mapped by VMAs and held by a
 * tmpfs file at once.
 */
#ifndef QUICKTHAW_PROCESS_MM_H
#define QUICKTHAW_PROCESS_MM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#include "common/state.h"
#include "vmm/guest_mem.h"

struct proc;
struct file;

int mm_new(struct proc *p);
void mm_free(struct proc *p);
int mm_save(struct proc *p, struct state_writer *w);
int mm_load(struct proc *p, struct state_reader *r);

/* ---- frames --------------------------------------------------------------------------------- */

/**
 * frame_alloc() - one zeroed frame with one reference.
 * Return: 0, or -ENOMEM when RAM is used up. Limits (function memory, /tmp) are checked by callers:
 * mm for the program's pages, tmpfs for its own.
 */
int frame_alloc(struct proc *p, uint32_t *ret_page);
void frame_ref(struct proc *p, uint32_t page);
/** frame_put() - drop a reference; the last one frees the frame and gives its memory to the host.
 */
void frame_put(struct proc *p, uint32_t page);

/** mm_resident_pages() - frames in use, page tables and tmpfs included: the memory a function uses.
 */
uint64_t mm_resident_pages(const struct proc *p);

/**
 * mm_for_each_frame() - call @fn for every frame in use, in ascending order: what a capture writes.
 * Return: 0 or the first non-zero value of @fn.
 */
int mm_for_each_frame(struct proc *p, int (*fn)(void *arg, uint32_t page), void *arg);
/** mm_template_pages() - one past the highest frame in use. */
uint64_t mm_template_pages(const struct proc *p);

/**
 * mm_trim() - take out what would come back as it is: pages of anonymous memory that hold only
 * zeros, and pages of private file mappings that were mapped ahead and never touched. Before a
 * capture, and before a guest is ended for lack of memory. Not while anything holds pointers to
 * guest memory. Return: pages taken.
 */
uint64_t mm_trim(struct proc *p);

/* ---- mappings: the mm system calls and exec use these; Linux semantics and errors ------------ */

/** mm_map() - as mmap(2). @file may be NULL (anonymous); a reference is taken. Return: address or
 * -errno. */
int64_t mm_map(struct proc *p, uint64_t addr, uint64_t bytes, int prot, int flags,
	       struct file *file, uint64_t offset);
int mm_unmap(struct proc *p, uint64_t addr, uint64_t bytes);
int mm_protect(struct proc *p, uint64_t addr, uint64_t bytes, int prot);

/** mm_remap() - as mremap(2). Return: address or -errno. */
int64_t mm_remap(struct proc *p, uint64_t old, uint64_t old_bytes, uint64_t new_bytes, int flags,
		 uint64_t to);
/** mm_advise() - as madvise(2). */
int mm_advise(struct proc *p, uint64_t addr, uint64_t bytes, int advice);
/** mm_brk() - as the system call: the new break, or the old one when it cannot move. */
uint64_t mm_brk(struct proc *p, uint64_t addr);
/** mm_set_brk() - where the heap starts, at exec. */
void mm_set_brk(struct proc *p, uint64_t start);
/** mm_mapped() - is every page of the range mapped? */
bool mm_mapped(struct proc *p, uint64_t addr, uint64_t bytes);
/** mm_is_present() - is the page of @addr in memory? */
bool mm_is_present(struct proc *p, uint64_t addr);
/**
 * mm_zap_file() - a tmpfs file lost the pages [@from, @to) (byte offsets, aligned): drop them from
 * all mappings of descriptions whose priv is @priv, as truncation does.
 */
void mm_zap_file(struct proc *p, const void *priv, uint64_t from, uint64_t to);

/**
 * mm_fault() - a page fault of the program.
 * @error_code: as the CPU pushed it (SDM vol. 3, 4.7)
 * @ret_signal, @ret_code: SIGSEGV/SIGBUS and si_code when the access was wrong
 * Return: 0 resolved; 1 deliver the signal; -ENOMEM over the limit (the guest ends).
 */
int mm_fault(struct proc *p, struct gva at, uint64_t error_code, int *ret_signal, int *ret_code);

/** mm_describe() - one line about the mapping that holds @at, for reports; "unmapped" if none. */
void mm_describe(struct proc *p, struct gva at, char *buf, size_t n);
/** mm_print_maps() - text of /proc/self/maps. Return: bytes put into @buf (cut at @n). */
size_t mm_print_maps(struct proc *p, char *buf, size_t n);
/** mm_print_pages() - "page address rights mapping" for every page that the program has. */
void mm_print_pages(struct proc *p, FILE *out);
/** mm_totals() - bytes mapped and resident, for /proc/self/statm and status. */
void mm_totals(struct proc *p, uint64_t *ret_mapped, uint64_t *ret_resident);

/* ---- user memory: every pointer that a system call gets goes through these ------------------ */

/** Return: 0 or -EFAULT. Pages are brought in as a touch would. */
int mm_copy_in(struct proc *p, void *dst, uint64_t src, size_t n);
int mm_copy_out(struct proc *p, uint64_t dst, const void *src, size_t n);
/** mm_copy_in_str() - NUL-terminated string. Return: its length, -EFAULT or -ENAMETOOLONG. */
int mm_copy_in_str(struct proc *p, char *dst, uint64_t src, size_t size);

/**
 * mm_user_iov() - host iovecs for a range of user memory, pages brought in. Like the pointer of
 * mm_user_u32() they are valid until the next call that brings user memory in, maps or unmaps.
 * @write: the vmm will write there
 * @max: room in @iov; a range that needs more is cut short (adjacent frames are merged)
 * @ret_count: entries used
 * Return: bytes covered (> 0 unless @n is 0), or -EFAULT when not even the first byte is
 * accessible.
 */
ssize_t mm_user_iov(struct proc *p, uint64_t addr, size_t n, bool write, struct iovec *iov, int max,
		    int *ret_count);

/** mm_user_u32() - pointer to an aligned u32 for futexes. Return: NULL when inaccessible. */
uint32_t *mm_user_u32(struct proc *p, uint64_t addr, bool write);
/** mm_user_key() - identity of the memory at @addr, the same for every mapping of one frame. 0:
 * none */
uint64_t mm_user_key(struct proc *p, uint64_t addr);

/* ---- exec ------------------------------------------------------------------------------------ */

/**
 * exec_load() - load an ELF program (and its interpreter), build the initial stack (argv, envp,
 * auxv with AT_SYSINFO_EHDR, AT_RANDOM, ...), and set up the first task's registers.
 * @path: resolved through the guest's vfs
 * Source: System V ABI x86-64, 3.4; Linux fs/binfmt_elf.c behaviour. Return: 0 or -errno with a log
 * line that says what is wrong with the file.
 */
struct user_state;
int exec_load(struct proc *p, const char *path, char *const argv[], char *const envp[],
	      struct user_state *ret_user);

enum { MM_AUXV_MAX = 48 };

/**
 * struct mm_exec - what /proc/self tells about the program.
 * @path: the program file, as the guest sees it
 * @arg_start, @arg_end, @env_start, @env_end: strings on the stack
 * @auxv: pairs, @auxv_words words
 */
struct mm_exec {
	char path[4096];
	uint64_t arg_start, arg_end, env_start, env_end;
	uint64_t vdso;
	uint64_t auxv[MM_AUXV_MAX];
	uint32_t auxv_words;
};
const struct mm_exec *mm_exec_info(const struct proc *p);

#endif

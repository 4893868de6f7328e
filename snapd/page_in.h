/* SPDX-License-Identifier: Apache-2.0 */
/* page_in.h - turn a guest fault into a filled chunk */
#ifndef QUICKTHAW_SNAPD_PAGE_IN_H
#define QUICKTHAW_SNAPD_PAGE_IN_H

#include <stdbool.h>
#include <stdint.h>

#include "snapd/template.h"

/** Clients have the numbers of instances. */
#define PAGE_IN_CLIENTS_MAX 512u

/**
 * typedef page_in_fail_fn - an instance cannot go on: its memory cannot be had, or it broke the
 * rules. Called from the loop; the callee ends the instance and detaches the client.
 * @text: what is wrong, for people
 */
typedef void (*page_in_fail_fn)(uint32_t client, const char *text);

/** page_in_init() - allocate all that faults will need. Return: 0 or -errno. */
int page_in_init(page_in_fail_fn fail);
/** page_in_finish() - at the end, or between tests; no read may be in flight. */
void page_in_finish(void);

/**
 * page_in_attach() - serve the faults of an instance from now on.
 * @uffd: non-blocking userfaultfd; stays the caller's until page_in_detach()
 * @ram_base: where the instance's RAM starts in its address space
 */
void page_in_attach(uint32_t client, int uffd, uint64_t ram_base);
/** page_in_use() - the template that the instance's RAM is a private mapping of. */
void page_in_use(uint32_t client, struct template *t);
/** page_in_recover() - the instance's faults were served by a snapd that is gone: let every fault
 * that waits be taken again. After page_in_use(). */
void page_in_recover(uint32_t client);
/** page_in_end() - the instance is being killed: whoever waits for a page of it gets zeros, until
 * page_in_detach(). Its template is not touched any more. */
void page_in_end(uint32_t client);
/** page_in_read() - take what its userfaultfd has, where the loop does not run any more. */
void page_in_read(uint32_t client);
/** page_in_detach() - no more faults. Its process has exited, or lives on in another snapd's hands;
 * then close the uffd. */
void page_in_detach(uint32_t client);

/** struct page_in_account - what one instance has cost since page_in_use(). */
struct page_in_account {
	uint64_t faults;
	uint64_t bytes_read;
};
struct page_in_account page_in_account(uint32_t client);

/** What pre-warming brings in is on no instance's account. */
#define PAGE_IN_NOBODY UINT32_MAX
/** page_in_prefetch() - start to read the working set of @t in file order, for @client. Return:
 * false when too much is being loaded already: faults will have to do. */
bool page_in_prefetch(struct template *t, uint32_t client);
/** page_in_load() - the same with all of the snapshot. */
bool page_in_load(struct template *t, uint32_t client);
/** page_in_is_loading() - is one of both under way for @t? */
bool page_in_is_loading(const struct template *t);

/**
 * struct page_in_costs - moving averages of what this host takes; 0: not known yet.
 * @read_ns: a read of @read_bytes (also an average) from its start to its end
 * @decode_ns: to check, decompress and fill one page
 */
struct page_in_costs {
	uint64_t read_ns, read_bytes, decode_ns;
};
struct page_in_costs page_in_costs(void);

/** page_in_work() - once per turn of the loop: a part of what prefetching has to do, and faults
 * that the turn before had no time for. Return: true when there is more to do, so the loop should
 * not sleep. */
bool page_in_work(void);

/** page_in_reads() - reads in flight, of all templates. */
unsigned page_in_reads(void);

#endif

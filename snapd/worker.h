/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h - threads for what blocks: files, fsync, rewriting snapshots, the queue of events */
#ifndef QUICKTHAW_SNAPD_WORKER_H
#define QUICKTHAW_SNAPD_WORKER_H

#include <stdbool.h>

/** Threads. What clients wait for has one of its own, for publishing takes seconds. */
enum worker_id {
	WORKER_FILES,  /**< worker_queue() */
	WORKER_EVENTS, /**< commits accepted events */
	WORKER_IMAGES, /**< makes disks of kernel guests, which takes as long as their code is large
			*/
	WORKER_COUNT
};

/**
 * struct work - one job; embed it in a struct of your own, which stays valid until @done.
 * @run: in the worker thread; touches nothing that the loop's thread may touch meanwhile
 * @done: later, in the loop's thread
 */
struct work {
	void (*run)(struct work *work);
	void (*done)(struct work *work);
	struct work *next;
};

/** worker_init() - start the threads; completions arrive as LOOP_WORKER. Return: 0 or -errno. */
int worker_init(void);
/** worker_queue() - jobs run one after the other, in order; never blocks. */
void worker_queue(struct work *work);
/** worker_queue_on() - the same on another thread; threads know no order among them. */
void worker_queue_on(enum worker_id id, struct work *work);
/** worker_stop() - end one thread after the job that it is at; what is queued is dropped. */
void worker_stop(enum worker_id id);
/** worker_restart() - start a thread again that was stopped. Return: 0 or -errno. */
int worker_restart(enum worker_id id);
/** worker_is_idle() - is nobody at the state directory's files, and is all that was done done()? */
bool worker_is_idle(void);
/** worker_finish() - the same with all of them. */
void worker_finish(void);

#endif

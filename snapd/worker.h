/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h - one thread for what blocks: files, fsync, rewriting snapshots */
#ifndef QUICKTHAW_SNAPD_WORKER_H
#define QUICKTHAW_SNAPD_WORKER_H

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

/** worker_init() - start the thread; completions arrive as LOOP_WORKER. Return: 0 or -errno. */
int worker_init(void);
/** worker_queue() - jobs run one after the other, in order; never blocks. */
void worker_queue(struct work *work);
/** worker_finish() - end the thread after the job that it is at; what is queued is dropped. */
void worker_finish(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - one thread for what blocks: files, fsync, rewriting snapshots */
#include "snapd/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"
#include "snapd/event_loop.h"

/* Both lists are first in, first out, and under the lock. */
struct work_list {
	struct work *first, *last;
};

static struct {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct work_list queued, finished;
	bool stop, started;
	int event_fd;
} worker = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.event_fd = -1,
};

static void list_push(struct work_list *list, struct work *work)
{
	work->next = NULL;
	if (list->last)
		list->last->next = work;
	else
		list->first = work;
	list->last = work;
}

static struct work *list_pop(struct work_list *list)
{
	struct work *work = list->first;

	if (!work)
		return NULL;
	list->first = work->next;
	if (!list->first)
		list->last = NULL;
	return work;
}

static void *worker_main(void *arg)
{
	const uint64_t one = 1;

	(void)arg;
	pthread_mutex_lock(&worker.lock);
	while (!worker.stop) {
		struct work *work = list_pop(&worker.queued);

		if (!work) {
			pthread_cond_wait(&worker.wake, &worker.lock);
			continue;
		}
		pthread_mutex_unlock(&worker.lock);
		work->run(work);
		pthread_mutex_lock(&worker.lock);
		list_push(&worker.finished, work);
		if (write(worker.event_fd, &one, sizeof(one)) < 0)
			log_error("worker: eventfd: %m");
	}
	pthread_mutex_unlock(&worker.lock);
	return NULL;
}

static void on_finished(const struct loop_event *event)
{
	struct work *work;
	uint64_t count;

	if (read(worker.event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("worker: eventfd: %m");
	if (!event->more)
		event_loop_poll(LOOP_WORKER, 0, 0, worker.event_fd);
	for (;;) {
		pthread_mutex_lock(&worker.lock);
		work = list_pop(&worker.finished);
		pthread_mutex_unlock(&worker.lock);
		if (!work)
			break;
		work->done(work);
	}
}

int worker_init(void)
{
	sigset_t all, old;
	int ret;

	worker.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker.event_fd < 0)
		return -errno;
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&worker.thread, NULL, worker_main, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		return ret;
	worker.started = true;
	event_loop_handle(LOOP_WORKER, on_finished);
	event_loop_poll(LOOP_WORKER, 0, 0, worker.event_fd);
	return 0;
}

void worker_queue(struct work *work)
{
	pthread_mutex_lock(&worker.lock);
	list_push(&worker.queued, work);
	pthread_cond_signal(&worker.wake);
	pthread_mutex_unlock(&worker.lock);
}

void worker_finish(void)
{
	if (!worker.started)
		return;
	pthread_mutex_lock(&worker.lock);
	worker.stop = true;
	pthread_cond_signal(&worker.wake);
	pthread_mutex_unlock(&worker.lock);
	pthread_join(worker.thread, NULL);
	close(worker.event_fd);
	worker.started = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - threads for what blocks: files, fsync, rewriting snapshots, the queue of events */
#include "snapd/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/log.h"
#include "common/thread.h"
#include "snapd/event_loop.h"

/* Both lists are first in, first out, and under the lock. */
struct work_list {
	struct work *first, *last;
};

/** struct worker - one thread. Its id is the slot of its completions. */
struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct work_list queued, finished;
	bool stop, started;
	unsigned pending; /* the loop's: queued and not done() */
	int event_fd;
};

static struct worker workers[WORKER_COUNT];

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
	struct worker *w = arg;
	const uint64_t one = 1;

	setpriority(PRIO_PROCESS, 0, 0); /* the loop's is higher */
	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct work *work = list_pop(&w->queued);

		if (!work) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		work->run(work);
		pthread_mutex_lock(&w->lock);
		list_push(&w->finished, work);
		if (write(w->event_fd, &one, sizeof(one)) < 0)
			log_error("worker: eventfd: %m");
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void on_finished(const struct loop_event *event)
{
	struct worker *w = &workers[event->slot];
	struct work *work;
	uint64_t count;

	if (read(w->event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("worker: eventfd: %m");
	if (!event->more)
		event_loop_poll(LOOP_WORKER, event->slot, 0, w->event_fd);
	for (;;) {
		pthread_mutex_lock(&w->lock);
		work = list_pop(&w->finished);
		pthread_mutex_unlock(&w->lock);
		if (!work)
			break;
		w->pending--;
		work->done(work);
	}
}

static int worker_start(enum worker_id id)
{
	struct worker *w = &workers[id];
	int ret;

	*w = (struct worker){
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.wake = PTHREAD_COND_INITIALIZER,
		.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	if (w->event_fd < 0)
		return -errno;
	/* Signals are the loop's. */
	ret = thread_start(&w->thread, NULL, worker_main, w);
	if (ret) {
		close(w->event_fd);
		return ret;
	}
	w->started = true;
	event_loop_poll(LOOP_WORKER, id, 0, w->event_fd);
	return 0;
}

int worker_init(void)
{
	int ret = 0;

	event_loop_handle(LOOP_WORKER, on_finished);
	for (int id = 0; id < WORKER_COUNT && !ret; id++)
		ret = worker_start(id);
	return ret;
}

void worker_queue_on(enum worker_id id, struct work *work)
{
	struct worker *w = &workers[id];

	w->pending++;
	pthread_mutex_lock(&w->lock);
	list_push(&w->queued, work);
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

void worker_queue(struct work *work)
{
	worker_queue_on(WORKER_FILES, work);
}

void worker_stop(enum worker_id id)
{
	struct worker *w = &workers[id];

	if (!w->started)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	close(w->event_fd);
	w->started = false;
}

int worker_restart(enum worker_id id)
{
	return worker_start(id);
}

bool worker_is_idle(void)
{
	return !workers[WORKER_FILES].pending && !workers[WORKER_IMAGES].pending;
}

void worker_finish(void)
{
	for (int id = 0; id < WORKER_COUNT; id++)
		worker_stop(id);
}

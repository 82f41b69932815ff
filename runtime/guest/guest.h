/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The init program of the bench: what its parts share
 */

#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#define DEBUGFS		"/sys/kernel/debug"

#define MAX_MODULES	8
#define MAX_SIZES	16
#define MAX_PROGRAMS	4
#define MAX_MESSAGE	0x100000

/* One driver, and what is to be done with it */
struct run {
	char *name;
	char *modules[MAX_MODULES];	/* paths, in the order of loading */
	int nmodules;
	size_t sizes[MAX_SIZES];	/* of messages */
	int nsizes;
	int rounds;
	char *node;		/* in /dev; NULL: the one that appears */
	char *programs[MAX_PROGRAMS];	/* drive the device in our place */
	int nprograms;
	bool inject;
	long skip;		/* calls that have failed in another boot */
	long most;		/* calls that shall fail in this one */
	bool some;		/* not all that come from the same place */
};

/*
 * What is done in a process of its own: returns 0 or -errno, and may put more
 * into @trouble
 */
typedef int (*step_fn)(const struct run *run, char *trouble, size_t size);

#define TROUBLE_SIZE	256

/* How a trouble begins that no driver has told: it moved wrong data */
#define DATA		"data: "

/* report.c: files, and what is said */
#define __attribute(name)	__attribute__((name))
#define __printf(string, first)	__attribute(format(printf, string, first))

__printf(1, 2) char *format(const char *pattern, ...);
int put(const char *path, const char *text);
long get(const char *path);
long count_lines(const char *path);
void sleep_ms(int ms);

void open_kmsg(void);
__printf(1, 2) void say(const char *pattern, ...);
void say_file(const char *path, const char *title);
void begin_run(const char *name);
bool say_step(const char *name, const char *trouble);
void say_skipped(const char *name, const char *why);
void end_run(int number, const char *name);

/* driver.c: load it, use it, unload it */
void note_nodes(void);
void find_node(const struct run *run);
bool can_transfer(const struct run *run);
bool driver_bound(const struct run *run);
char *module_name(const char *path);
int insert_module(const char *path, const char *parameters);
bool in_child(step_fn step, const struct run *run, int *ret, char *trouble);
int load(const struct run *run, char *trouble, size_t size);
int transfer(const struct run *run, char *trouble, size_t size);
int unload(const struct run *run, char *trouble, size_t size);

#endif /* GUEST_H */

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The init program of the bench: small files, and what is said
 *
 * All that is said goes through /dev/kmsg, so that it has its place among the
 * messages of the kernel.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

static int kmsg;
static int step;		/* number of the last one of this run */
static bool run_failed;

/* Like asprintf(). Nobody frees it: this program does not live long. */
char *format(const char *pattern, ...)
{
	va_list args;
	char *text;
	int len;

	va_start(args, pattern);
	len = vasprintf(&text, pattern, args);
	va_end(args);
	if (len < 0)
		abort();
	return text;
}

/* Returns 0 or -errno */
int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* The number that a file holds, or -1 */
long get(const char *path)
{
	FILE *file = fopen(path, "r");
	long value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

long count_lines(const char *path)
{
	FILE *file = fopen(path, "r");
	long lines = 0;
	int c;

	if (!file)
		return -1;
	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

void sleep_ms(int ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

void open_kmsg(void)
{
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (kmsg < 0)
		abort();
}

void say(const char *pattern, ...)
{
	char line[900] = "<5>";
	va_list args;

	va_start(args, pattern);
	vsnprintf(line + 3, sizeof(line) - 3, pattern, args);
	va_end(args);
	if (write(kmsg, line, strlen(line)) < 0)
		abort();
}

/* Say what a file holds, as diagnostics */
void say_file(const char *path, const char *title)
{
	FILE *file = fopen(path, "r");
	char line[256];

	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		say("  # %s: %s", title, line);
	}
	fclose(file);
}

void begin_run(const char *name)
{
	say("  KTAP version 1");
	say("  # Subtest: %s", name);
	step = 0;
	run_failed = false;
}

/* One step of a run; returns whether there was no trouble */
bool say_step(const char *name, const char *trouble)
{
	step++;
	if (!trouble[0]) {
		say("  ok %d %s", step, name);
		return true;
	}

	say("  not ok %d %s # %s", step, name, trouble);
	run_failed = true;
	return false;
}

void say_skipped(const char *name, const char *why)
{
	step++;
	say("  ok %d %s # SKIP %s", step, name, why);
}

void end_run(int number, const char *name)
{
	say("  1..%d", step);
	say("%s %d %s", run_failed ? "not ok" : "ok", number, name);
}

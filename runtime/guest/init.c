// SPDX-License-Identifier: GPL-2.0-only
/*
 * The init program of the bench: runs drivers as /plan says, speaks KTAP
 *
 * The plan has one word and its value a line, see read_plan(). For each "run"
 * in it:
 *
 *	load, transfer, unload; the same once more; then look for what is left
 *
 * or, when the run is to "inject": the same with every single call of the DMA
 * API failing in turn. A run that leaves the machine in a state that the next
 * one would suffer from is the last one: whoever made the plan starts another
 * machine for the others.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define DMA_DEBUG	DEBUGFS "/dma-api"
#define KMEMLEAK	DEBUGFS "/kmemleak"
#define INJECT		DEBUGFS "/dma_inject"
#define INJECT_MODULE	"/dma_inject.ko"

#define DMA_ERRORS	"20"	/* printed for a run; all are counted */

#define MAX_RUNS	256
#define MAX_TARGETS	16
#define MAX_CALLS	1024		/* of one function, as in dma_inject.c */

#define FIRST_CALLS	2		/* from one place that all fail, */
#define EVERY_CALL	64		/* and which others */

#define STEADY_MESSAGES	3

#define RATELIMIT_MS	5100	/* for so long are further reports held back */
#define LEAK_AGE_MS	6000	/* younger objects are no leaks to kmemleak */

/* An oops, or a bad page, which is what slub and KASAN set, too */
#define TAINT_STICKY	(0x80 | 0x20)

/* What a run must leave as it was */
struct state {
	long errors;		/* that dma-debug has counted */
	long mappings;		/* that it knows of */
};

static struct run runs[MAX_RUNS];
static int nruns;
static bool look_for_leaks;

/* --- The plan ----------------------------------------------------------- */

static void read_line(const char *word, const char *value)
{
	struct run *run = nruns ? &runs[nruns - 1] : NULL;

	if (!strcmp(word, "kmemleak")) {
		look_for_leaks = atoi(value);
	} else if (!strcmp(word, "run") && nruns < MAX_RUNS) {
		runs[nruns++].name = format("%s", value);
	} else if (run && !strcmp(word, "module") &&
		   run->nmodules < MAX_MODULES) {
		run->modules[run->nmodules++] = format("%s", value);
	} else if (run && !strcmp(word, "size") && run->nsizes < MAX_SIZES &&
		   strtoul(value, NULL, 10) <= MAX_MESSAGE) {
		run->sizes[run->nsizes++] = strtoul(value, NULL, 10);
	} else if (run && !strcmp(word, "rounds")) {
		run->rounds = atoi(value);
	} else if (run && !strcmp(word, "node")) {
		run->node = format("%s", value);
	} else if (run && !strcmp(word, "program") &&
		   run->nprograms < MAX_PROGRAMS) {
		run->programs[run->nprograms++] = format("%s", value);
	} else if (run && !strcmp(word, "inject")) {
		run->inject = atoi(value);
	} else if (run && !strcmp(word, "skip")) {
		run->skip = atol(value);
	} else if (run && !strcmp(word, "most")) {
		run->most = atol(value);
	} else if (run && !strcmp(word, "some")) {
		run->some = atoi(value);
	} else {
		say("Bail out! the plan is not understood: %s %s", word, value);
		exit(1);
	}
}

static void read_plan(void)
{
	FILE *file = fopen("/plan", "r");
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		char *value;

		line[strcspn(line, "\n")] = '\0';
		value = strchr(line, ' ');
		if (value)
			*value++ = '\0';
		read_line(line, value ? value : "");
	}
	if (file)
		fclose(file);
}

/* --- Runs --------------------------------------------------------------- */

static struct state look(void)
{
	return (struct state) {
		.errors = get(DMA_DEBUG "/error_count"),
		.mappings = count_lines(DMA_DEBUG "/dump"),
	};
}

/* Compare with what was before; returns whether a next run may follow */
static bool leftovers(const struct state *before)
{
	struct state now = look();
	long errors = now.errors - before->errors;
	long mappings = now.mappings - before->mappings;

	say_step("dma-debug", errors ? format("%ld errors", errors) : "");
	say_step("mappings",
		 mappings ? format("%ld more than before", mappings) : "");

	return !mappings && !(get("/proc/sys/kernel/tainted") & TAINT_STICKY);
}

/* Returns whether the machine is still of use */
static bool do_step(const char *name, step_fn step, const struct run *run,
		    int *ret)
{
	char trouble[TROUBLE_SIZE];
	bool alive = in_child(step, run, ret, trouble);

	if (*ret && !trouble[0])
		snprintf(trouble, sizeof(trouble), "%s", strerror(-*ret));
	say_step(name, trouble);
	return alive;
}

/*
 * A mapping that stays with every message is lost, even if unloading finds it.
 * Those that the first message made, or that wait to be undone by the next one,
 * are none. Returns whether the machine is still of use.
 */
static bool stay_steady(const struct run *run)
{
	struct run once = *run;
	bool grows = true;
	int ret = 0;
	int i;

	once.rounds = 1;
	once.nsizes = run->nsizes ? 1 : 0;
	for (i = 0; i < STEADY_MESSAGES && grows && !ret; i++) {
		long before = look().mappings;

		if (!do_step("transfer of one more", transfer, &once, &ret))
			return false;
		grows = look().mappings > before;
	}

	say_step("mappings in use",
		 grows && !ret ? "every message leaves more of them" : "");
	return true;
}

/* Use a driver that was loaded; returns whether the machine is of use */
static bool use(const struct run *run, const char *when)
{
	int ret;

	find_node(run);
	if (!driver_bound(run)) {
		say_step(format("bind%s", when),
			 "no device is bound: did probe fail?");
		return true;
	}
	if (!can_transfer(run)) {
		say_skipped(format("transfer%s", when),
			    "the driver has no device node");
		return true;
	}

	return do_step(format("transfer%s", when), transfer, run, &ret) &&
	       (ret || run->inject || stay_steady(run));
}

/* Load, use, unload; returns whether the machine is still of use */
static bool cycle(const struct run *run, const char *when)
{
	int ret;

	if (!do_step(format("load%s", when), load, run, &ret) ||
	    (!ret && !use(run, when)))
		return false;

	return do_step(format("unload%s", when), unload, run, &ret) && !ret;
}

static bool plain_run(const struct run *run)
{
	struct state before = look();

	return cycle(run, "") && cycle(run, " again") && leftovers(&before);
}

/* --- Calls that fail ---------------------------------------------------- */

static void set_inject(const char *function, const char *file, long value)
{
	put(format(INJECT "/%s/%s", function, file), format("%ld", value));
}

static long calls_of(const char *function)
{
	return get(format(INJECT "/%s/calls", function));
}

/*
 * Load and use the driver while the n-th call fails. What must come of it: an
 * error that somebody is told, or no harm at all. Afterwards all works again,
 * both as the driver is and once it is loaded anew.
 */
static bool inject_one(const struct run *run, const char *function, long nth)
{
	char *name = format("%s %ld", function, nth);
	struct state before = look();
	char trouble[TROUBLE_SIZE];
	const char *where = "load";
	char *said = "";
	bool alive;
	long calls;
	int ret;

	say("  # %s fails", name);
	set_inject(function, "calls", 0);
	set_inject(function, "fail", nth);

	alive = in_child(load, run, &ret, trouble);
	find_node(run);
	if (alive && driver_bound(run) && can_transfer(run)) {
		where = "transfer";
		alive = in_child(transfer, run, &ret, trouble);
	}
	calls = calls_of(function);
	set_inject(function, "fail", 0);

	if (!alive)
		said = format("%s %s", where, trouble);
	else if (!strncmp(trouble, DATA, strlen(DATA)))
		said = format("no error, but %s", trouble);
	if (alive && calls < nth)
		say_skipped(name, "the call was not made this time");
	else
		say_step(name, said);
	say("  # %s: %s", where, ret ? trouble :
	    driver_bound(run) ? "no error" : "no device is bound");
	if (!alive)
		return false;

	if (driver_bound(run) && can_transfer(run) &&
	    !do_step("transfer after it", transfer, run, &ret))
		return false;
	if (!do_step("unload after it", unload, run, &ret) || ret)
		return false;
	if (!leftovers(&before))
		return false;
	return cycle(run, " after it");
}

/*
 * Which calls shall fail? All, or of those from one place only the first ones
 * and then one in so many: a loop over a ring of buffers. Returns how many.
 */
static long choose_calls(const struct run *run, const char *function,
			 bool *chosen, long calls)
{
	static unsigned int places[MAX_CALLS];
	FILE *file = fopen(format(INJECT "/%s/places", function), "r");
	long number = 0;
	long earlier;
	long i;
	long k;

	for (i = 0; i < calls; i++) {
		chosen[i] = true;
		if (run->some && file && fscanf(file, "%u", &places[i]) == 1) {
			for (k = 0, earlier = 0; k < i; k++)
				earlier += places[k] == places[i];
			chosen[i] = earlier < FIRST_CALLS ||
				    !(earlier % EVERY_CALL);
		}
		number += chosen[i];
	}
	if (file)
		fclose(file);

	return number;
}

static bool inject_all(const struct run *run)
{
	static bool chosen[MAX_TARGETS][MAX_CALLS];
	static char *targets[MAX_TARGETS];
	static long calls[MAX_TARGETS];
	char *parameters = "modules=";
	struct dirent *entry;
	int ntargets = 0;
	long number = 0;
	long total = 0;
	long call = 0;
	bool good;
	DIR *dir;
	long nth;
	int ret;
	int i;

	for (i = 0; i < run->nmodules; i++)
		parameters = format("%s%s%s", parameters, i ? "," : "",
				    module_name(run->modules[i]));
	ret = insert_module(INJECT_MODULE, parameters);
	if (ret) {
		say_step("inject", strerror(-ret));
		return false;
	}

	/* How many calls are there? */
	good = cycle(run, "");
	dir = opendir(INJECT);
	while (dir && (entry = readdir(dir)) && ntargets < MAX_TARGETS) {
		if (entry->d_name[0] == '.')
			continue;
		i = ntargets++;
		targets[i] = format("%s", entry->d_name);
		calls[i] = calls_of(entry->d_name);
		total += calls[i];
		if (calls[i] > MAX_CALLS)
			calls[i] = MAX_CALLS;
		number += choose_calls(run, targets[i], chosen[i], calls[i]);
	}
	if (dir)
		closedir(dir);

	say("  # %ld of %ld calls shall fail", number, total);
	for (i = 0; i < ntargets; i++) {
		for (nth = 1; good && nth <= calls[i]; nth++) {
			if (!chosen[i][nth - 1])
				continue;
			if (call >= run->skip && call < run->skip + run->most)
				good = inject_one(run, targets[i], nth);
			call++;
		}
	}

	return !syscall(SYS_delete_module, "dma_inject", O_NONBLOCK) && good;
}

/* --- From the start to the end ------------------------------------------ */

static void set_up(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	open_kmsg();
	note_nodes();
}

static void power_off(void)
{
	reboot(RB_POWER_OFF);
}

/*
 * Memory that any of the runs has lost. Looked for once, at the end: it takes
 * longer than a run. An object counts when it was seen unreferenced twice.
 */
static void find_leaks(void)
{
	const char *trouble = "";

	begin_run("kmemleak");
	sleep_ms(LEAK_AGE_MS);
	put(KMEMLEAK, "scan");
	put(KMEMLEAK, "scan");
	if (count_lines(KMEMLEAK) > 0) {
		say_file(KMEMLEAK, "kmemleak");
		trouble = "memory is lost";
	}
	say_step("kmemleak", trouble);
	end_run(nruns + 1, "kmemleak");
}

int main(void)
{
	bool good = true;
	int i;

	set_up();
	atexit(power_off);
	say("KTAP version 1");
	read_plan();
	say("1..%d", nruns + look_for_leaks);
	if (look_for_leaks)
		put(KMEMLEAK, "clear");
	for (i = 0; i < nruns && good; i++) {
		if (i)
			sleep_ms(RATELIMIT_MS);
		/* Let the kernel say again what it says only so many times */
		put(DEBUGFS "/clear_warn_once", "1");
		put(DMA_DEBUG "/num_errors", DMA_ERRORS);
		begin_run(runs[i].name);
		good = runs[i].inject ? inject_all(&runs[i]) :
					plain_run(&runs[i]);
		end_run(i + 1, runs[i].name);
	}
	if (!good)
		say("# stopped: the machine is no longer clean");
	else if (look_for_leaks)
		find_leaks();
	return 0;
}

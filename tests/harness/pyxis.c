/* Stands in for NVIDIA's plugin for Slurm, which no package has: takes its options of srun, and starts a task in a
 * folder with a root file system, with the folders that it names. What srun and slurmd do is their own. */

#define _GNU_SOURCE
#include <sched.h>
#include <slurm/spank.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

SPANK_PLUGIN(pyxis_stand_in, 1)

static int note(int val, const char *arg, int remote) { return 0; }

enum { IMAGE, MOUNTS, WORKDIR };
struct spank_option spank_options[] = {
    {"container-image", "PATH", "[pyxis] root file system", 1, 0, note},
    {"container-mounts", "SRC:DST[:FLAGS],...", "[pyxis] bind mounts", 1, 0, note},
    {"container-workdir", "PATH", "[pyxis] working directory", 1, 0, note},
    {"container-env", "NAME,...", "[pyxis] variables that count", 1, 0, note},
    {"no-container-mount-home", NULL, "[pyxis] no home", 0, 0, note},
    {"no-container-entrypoint", NULL, "[pyxis] no entrypoint", 0, 0, note},
    SPANK_OPTIONS_TABLE_END};

static int fail(const char *what, const char *path) {
  slurm_error("pyxis: %s %s: %m", what, path);
  return -1;
}

int slurm_spank_task_init(spank_t sp, int ac, char **av) {
  char *image = NULL, *mounts = NULL, *workdir = NULL, *rest, target[4096];
  if (spank_option_getopt(sp, &spank_options[IMAGE], &image) != ESPANK_SUCCESS || !image) return 0;
  spank_option_getopt(sp, &spank_options[MOUNTS], &mounts);
  spank_option_getopt(sp, &spank_options[WORKDIR], &workdir);
  if (unshare(CLONE_NEWNS) || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL)) return fail("unshare", "/");
  if (mount(image, image, NULL, MS_BIND, NULL)) return fail("image", image);
  for (char *one = strtok_r(mounts, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
    char *to = strchr(one, ':'), *flags;
    *to++ = 0;
    if ((flags = strchr(to, ':'))) *flags++ = 0;
    snprintf(target, sizeof target, "%s%s", image, to);
    if (mount(one, target, NULL, MS_BIND, NULL)) return fail("mount", target);
    if (flags && mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL)) return fail("ro", target);
  }
  if (chroot(image) || chdir(workdir ? workdir : "/")) return fail("enter", image);
  return 0;
}

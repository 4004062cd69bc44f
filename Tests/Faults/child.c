/* child.c - see faults_child.h. */
#include <errno.h>
#include <faults_child.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int spawn(const char *path, char *const arguments[], int output, pid_t *child_out) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) return error;
  error = posix_spawnattr_init(&attributes);
  if (error == 0) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    error = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (error == 0) error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0) error = posix_spawnattr_setsigmask(&attributes, &none);
    if (error == 0) error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (error == 0) error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (error == 0) error = posix_spawn(child_out, path, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
  }
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

int faults_child_start(const char *path, char *const arguments[], pid_t *child_out, int *output_out) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return errno;
  int error = spawn(path, arguments, ends[1], child_out);
  close(ends[1]);
  if (error != 0)
    close(ends[0]);
  else
    *output_out = ends[0];
  return error;
}

void faults_child_kill(pid_t child) { kill(child, SIGKILL); }

int faults_child_end(pid_t child, bool kills) {
  if (kills) faults_child_kill(child);
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return -1;
  return status;
}

int faults_child_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }

int faults_child_exit(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

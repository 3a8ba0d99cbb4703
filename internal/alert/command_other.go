//go:build !unix

package alert

import "os/exec"

// alone does nothing where there are no process groups: the program is killed, its children are not.
func alone(*exec.Cmd) {}

func killGroup(*exec.Cmd) {}

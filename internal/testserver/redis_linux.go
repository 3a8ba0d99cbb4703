package testserver

import "syscall"

// dieWithParent ends a server when the test's process was killed and could not do it.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

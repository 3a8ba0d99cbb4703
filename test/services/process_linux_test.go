//go:build services

package services

import "syscall"

// dieWithParent has a program end with the test, however that ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

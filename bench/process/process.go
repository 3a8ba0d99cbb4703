// Package process starts the processes of a benchmark, and tells what they take of the processor and of memory. What it tells is of Linux only.
package process

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Group is processes that end together. Dir is where what they say is kept, each in a file of its own.
type Group struct {
	Dir   string
	procs []*exec.Cmd
}

// Start starts a program. log is the file with what it says.
func (g *Group) Start(name string, args ...string) (pid int, log string, err error) {
	c := exec.Command(name, args...)
	log = filepath.Join(g.Dir, fmt.Sprintf("%d.log", len(g.procs)))
	f, err := os.Create(log)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return 0, "", err
	}
	g.procs = append(g.procs, c)
	return c.Process.Pid, log, nil
}

// Started is how many were started.
func (g *Group) Started() int { return len(g.procs) }

// End stops what was started, and waits for it.
func (g *Group) End() {
	for _, p := range g.procs {
		_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	for _, p := range g.procs {
		_ = p.Wait() // by a signal
	}
	g.procs = nil
}

// FreeAddresses returns addresses of the loopback interface at which nobody listens.
func FreeAddresses(n int) ([]string, error) {
	var list []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // kept until all are chosen, so that none is given twice
		list = append(list, l.Addr().String())
	}
	return list, nil
}

// Resident is the resident memory of a process, in bytes.
func Resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// Children lists the processes that a process has started and that still run.
func Children(pid int) (list []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil
	}
	for _, s := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(s); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// CPUTime is the CPU time of a process, user and system, in seconds; with ended also that of its children that have ended.
func CPUTime(pid int, ended bool) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	take := fields[11:13]
	if ended {
		take = fields[11:15]
	}
	sum := 0.0
	for _, f := range take {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		sum += ticks / 100 // USER_HZ is 100 on Linux
	}
	return sum, nil
}

// The groupcommit program is the floor under everything that keeps jobs on this machine's disk: each job costs one write
// when it is accepted and one when it is done, and whatever waits at a moment is written together. There is nothing else
// to it: no owner, no index but the key, no retry, no lease, no query. A producer goes on when its write is committed; a
// consumer in the same process is handed each committed job and writes that it is done.
//
// The modes are sqlite-normal (a write-ahead log that is not synced: a commit survives kill -9, not a power cut),
// sqlite-full (the log is synced at each commit) and log (a file that is appended to, with an fdatasync for each group).
package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	_ "modernc.org/sqlite"

	"github.com/jobgate/jobgate/testdata/peers/internal/producers"
)

// maxGroup is the most writes that are committed together.
const maxGroup = 256

// A write is that a job was accepted, or that it is done.
type write struct {
	job      int64
	accepted chan error // of a job that is not done
}

// A store commits a group of writes.
type store interface {
	commit(group []write) error
}

func main() {
	mode := flag.String("mode", "sqlite-normal", "sqlite-normal, sqlite-full or log")
	dir := flag.String("dir", "", "an empty directory")
	jobs := flag.Int("jobs", 1000, "how many")
	flag.Parse()
	if err := run(*mode, *dir, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(mode, dir string, jobs int) error {
	var s store
	var err error
	switch mode {
	case "sqlite-normal":
		s, err = openSQLite(dir, "NORMAL")
	case "sqlite-full":
		s, err = openSQLite(dir, "FULL")
	case "log":
		s, err = openLog(dir)
	default:
		err = fmt.Errorf("no mode %q", mode)
	}
	if err != nil {
		return err
	}
	load := producers.New(jobs)
	queue := make(chan write, 1024)
	committed := make(chan int64, jobs) // room for all: the writer never waits for the consumer
	broken := make(chan error, 1)
	go func() { broken <- writeAll(s, queue, committed, load) }()
	go func() {
		for job := range committed {
			queue <- write{job: job}
		}
	}()
	var last atomic.Int64
	err = load.Run(func(ctx context.Context) error {
		w := write{job: last.Add(1), accepted: make(chan error, 1)}
		select {
		case queue <- w:
		case err := <-broken:
			return err
		}
		select {
		case err := <-w.accepted:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil)
	select {
	case failure := <-broken:
		err = errors.Join(err, failure)
	default:
	}
	return err
}

// writeAll commits what waits, group by group, until one fails.
func writeAll(s store, queue <-chan write, committed chan<- int64, load *producers.Load) error {
	group := make([]write, 0, maxGroup)
	for first := range queue {
		group = append(group[:0], first)
	waiting:
		for len(group) < maxGroup {
			select {
			case w := <-queue:
				group = append(group, w)
			default:
				break waiting
			}
		}
		if err := s.commit(group); err != nil {
			return err
		}
		for _, w := range group {
			if w.accepted == nil {
				load.Done()
				continue
			}
			w.accepted <- nil
			committed <- w.job
		}
	}
	return nil
}

// database is a table of jobs, with one connection and prepared statements.
type database struct {
	begin, insert, finish, end *sql.Stmt
}

func openSQLite(dir, synchronous string) (*database, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "jobs.sqlite")+"?_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")")
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(context.Background(), "CREATE TABLE jobs (id INTEGER PRIMARY KEY, done INTEGER NOT NULL DEFAULT 0, name TEXT NOT NULL, payload TEXT NOT NULL)"); err != nil {
		return nil, err
	}
	var errs []error
	prepare := func(query string) *sql.Stmt {
		s, err := conn.PrepareContext(context.Background(), query)
		errs = append(errs, err)
		return s
	}
	d := &database{
		begin:  prepare("BEGIN IMMEDIATE"),
		insert: prepare("INSERT INTO jobs (id, name, payload) VALUES (?, ?, ?)"),
		finish: prepare("UPDATE jobs SET done = 1 WHERE id = ?"),
		end:    prepare("COMMIT"),
	}
	return d, errors.Join(errs...)
}

func (d *database) commit(group []write) error {
	if _, err := d.begin.Exec(); err != nil {
		return err
	}
	for _, w := range group {
		var err error
		if w.accepted != nil {
			_, err = d.insert.Exec(w.job, producers.Name, producers.Payload)
		} else {
			_, err = d.finish.Exec(w.job)
		}
		if err != nil {
			return err
		}
	}
	_, err := d.end.Exec()
	return err
}

// file is a log of writes.
type file struct {
	*os.File
	buffer []byte
}

func openLog(dir string) (*file, error) {
	f, err := os.OpenFile(filepath.Join(dir, "jobs.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &file{File: f}, nil
}

func (f *file) commit(group []write) error {
	f.buffer = f.buffer[:0]
	for _, w := range group {
		text := ""
		if w.accepted != nil {
			text = producers.Name + "\x00" + producers.Payload
		}
		f.buffer = binary.LittleEndian.AppendUint32(f.buffer, uint32(len(text)))
		f.buffer = binary.LittleEndian.AppendUint64(f.buffer, uint64(w.job))
		f.buffer = append(f.buffer, text...)
	}
	if _, err := f.Write(f.buffer); err != nil {
		return err
	}
	return syscall.Fdatasync(int(f.Fd()))
}

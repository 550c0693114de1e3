package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
)

const (
	maxConcurrency = 64
	maxLine        = maxInput
)

// A batch is a file of jobs to submit.
type batch struct {
	file        string
	id          string
	concurrency int
}

// A batchLine is a line of the file.
type batchLine struct {
	number int
	text   []byte
	err    error // why it is not submitted
	end    int64 // where the next one begins
}

// A lineRow is what -o json prints of a line.
type lineRow struct {
	Line     int            `json:"line"`
	Job      jsontext.Value `json:"job,omitempty"`
	Replayed bool           `json:"replayed,omitzero"`
	Problem  *problemRow    `json:"problem,omitempty"`
}

type problemRow struct {
	Code   string           `json:"code,omitzero"`
	Detail string           `json:"detail,omitzero"`
	Errors []api.FieldError `json:"errors,omitempty"`
}

// lineKey is the idempotency key of a line, which is the same whenever the same line stands at the same place of the same
// batch.
func lineKey(batch string, number int, text []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s:%d:", len(batch), batch, number)
	h.Write(text)
	return "jobgate-batch-" + hex.EncodeToString(h.Sum(nil)[:16])
}

func (b *batch) run(cmd *cobra.Command, t terminal, out output) error {
	if b.concurrency < 1 || b.concurrency > maxConcurrency {
		return misuse(fmt.Errorf("--concurrency has to be 1 to %d", maxConcurrency))
	}
	in, name, size := t.stdin, "standard input", int64(0)
	if b.file != "-" {
		name = b.file
		f, err := os.Open(name)
		if err != nil {
			return misuse(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return misuse(err)
		}
		if info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	c, err := t.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	id, again := b.id, "the same command goes on where this one ended"
	switch {
	case id != "":
	case b.file != "-":
		id = filepath.Base(b.file)
	default:
		id = strings.ToLower(rand.Text()[:10])
		again = "to go on where this one ended: the same input with --batch-id " + id
	}
	s := &tally{t: t, out: out, file: api.Printable(name), size: size, p: t.painter(t.stderr), width: t.width(t.stderr), began: t.now()}
	c.Retrying = func(r api.Retry) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.clear()
		t.say("%v; trying again in %v", r.Err, r.Wait.Round(100*time.Millisecond))
	}
	err = b.submit(cmd.Context(), c, id, in, s)
	s.end()
	switch {
	case err != nil:
		return &failure{err: err, next: again}
	case s.refused > 0:
		return &failure{err: Refused(fmt.Sprintf("%d of %s refused", s.refused, count(s.lines(), "line"))), next: "correct those lines; then " + again}
	}
	return nil
}

// submit reads lines and has them submitted, until all are or one shows that no other would be.
func (b *batch) submit(ctx context.Context, c *api.Client, id string, in io.Reader, s *tally) error {
	working, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	lines := make(chan batchLine)
	ended := make(chan error, 1)
	go func() { ended <- read(working, in, lines) }() // a read of a terminal or a pipe may end only with the process
	var workers sync.WaitGroup
	for range b.concurrency {
		workers.Go(func() {
			for {
				select {
				case line, ok := <-lines:
					if !ok {
						return
					}
					if err := b.one(working, c, id, line, s); err != nil {
						stop(err)
					}
				case <-working.Done():
					return
				}
			}
		})
	}
	workers.Wait()
	if cause := context.Cause(working); cause != nil {
		return cause
	}
	return <-ended
}

// one submits a line. Its error is one that the next line would meet as well.
func (b *batch) one(ctx context.Context, c *api.Client, id string, line batchLine, s *tally) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if line.err != nil {
		return s.refuse(line, line.err)
	}
	job, replayed, err := c.Submit(ctx, line.text, lineKey(id, line.number, line.text))
	switch {
	case err == nil:
		return s.accept(line, job, replayed)
	case aboutLine(err):
		return s.refuse(line, err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%s:%d: %w", s.file, line.number, err)
}

// aboutLine reports whether an error is about one line, such that the next may fare better.
func aboutLine(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	return ok && (p.Status == http.StatusBadRequest || p.Status == http.StatusRequestEntityTooLarge || p.Status == http.StatusUnprocessableEntity)
}

// read sends the lines of in, the empty ones left out, and closes lines. It reads no further than that: a file of any size
// takes a line's memory.
func read(ctx context.Context, in io.Reader, lines chan<- batchLine) error {
	defer close(lines)
	r := bufio.NewReaderSize(in, 64<<10)
	var end int64
	for number := 1; ; number++ {
		text, size, err := readLine(r)
		end += size
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errTooMuch) {
			return err
		}
		last := errors.Is(err, io.EOF)
		if text = bytes.TrimSpace(text); len(text) > 0 || errors.Is(err, errTooMuch) {
			line := batchLine{number: number, text: text, end: end}
			if !last {
				line.err = err
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if last {
			return nil
		}
	}
}

// readLine reads a line and says how many bytes it was; of one that is too long nothing is kept.
func readLine(r *bufio.Reader) (text []byte, size int64, err error) {
	for {
		part, err := r.ReadSlice('\n')
		size += int64(len(part))
		if size <= maxLine {
			text = append(text, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return nil, size, err
		case size > maxLine:
			return nil, size, errTooMuch // a last line without an end is followed by an empty one
		}
		return text, size, err
	}
}

// A tally counts what a batch came to, and shows it. It is safe for concurrent use.
type tally struct {
	t     terminal
	out   output
	file  string
	size  int64 // of the file, 0 when it is not known
	p     painter
	width int
	began time.Time

	mu                          sync.Mutex
	accepted, replayed, refused int
	done                        int64 // bytes, of the furthest line
	drawn                       bool
	drawnAt                     time.Time
}

func (s *tally) lines() int { return s.accepted + s.replayed + s.refused }

func (s *tally) accept(line batchLine, job api.Job, replayed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if replayed {
		s.replayed++
	} else {
		s.accepted++
	}
	err := s.row(lineRow{Line: line.number, Job: job.Raw, Replayed: replayed})
	s.draw(line)
	return err
}

func (s *tally) refuse(line batchLine, why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
	row := problemRow{Detail: why.Error()}
	if p, ok := errors.AsType[*api.Problem](why); ok {
		row = problemRow{Code: string(p.Code), Detail: p.Detail, Errors: p.Errors}
	}
	s.clear()
	s.t.say("%s:%d: %v", s.file, line.number, why)
	err := s.row(lineRow{Line: line.number, Problem: &row})
	s.draw(line)
	return err
}

func (s *tally) row(row lineRow) error {
	if s.out != asJSON {
		return nil
	}
	document, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return s.t.document(document)
}

// draw shows on a terminal how far it is, a few times a second.
func (s *tally) draw(line batchLine) {
	s.done = max(s.done, line.end)
	if s.width == 0 || s.drawn && s.t.now().Sub(s.drawnAt) < redraw {
		return
	}
	var begin string
	if s.size > 0 {
		percent := int(100 * min(s.done, s.size) / s.size)
		begin = fmt.Sprintf("%s %3d%% ", bar(percent), percent)
	}
	fmt.Fprint(s.t.stderr, "\r\x1b[K", cut(begin+s.counts(), s.width-1))
	s.drawn, s.drawnAt = true, s.t.now()
}

func (s *tally) clear() {
	if s.drawn {
		fmt.Fprint(s.t.stderr, "\r\x1b[K")
		s.drawn = false
	}
}

func (s *tally) counts() string {
	text := fmt.Sprintf("%d accepted", s.accepted)
	if s.replayed > 0 {
		text += fmt.Sprintf(", %d accepted before", s.replayed)
	}
	if s.refused > 0 {
		text += fmt.Sprintf(", %d refused", s.refused)
	}
	return text + ", after " + span(s.t.now().Sub(s.began))
}

// end says what it came to.
func (s *tally) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	c := green
	if s.refused > 0 {
		c = yellow
	}
	s.t.say("%s", s.p.paint(c, s.counts()))
}

//go:build unix

package adaptertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestPostgresKeepsWhatItCommitted(t *testing.T) {
	t.Parallel()
	server := Postgres(t)
	first, second := server.Database(t), server.Database(t)
	query(t, first, "CREATE TABLE things (name text)")
	query(t, second, "CREATE TABLE things (name text)")
	query(t, first, "INSERT INTO things VALUES ('kept')")
	if got := query(t, first, "SELECT name FROM things"); got != "kept" {
		t.Errorf("the first database has %q", got)
	}
	if got := query(t, second, "SELECT count(*)::text FROM things"); got != "0" {
		t.Errorf("the second database has %q things, want none: it is another", got)
	}

	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := pgx.Connect(ctx, first); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused server answers: %v", err)
	}
	server.Continue()
	if got := query(t, first, "SELECT name FROM things"); got != "kept" {
		t.Errorf("after the pause the first database has %q", got)
	}

	server.Kill()
	if _, err := pgx.Connect(t.Context(), first); err == nil {
		t.Error("a killed server answers")
	}
	server.Restart() // after Kill
	server.Restart() // while it runs
	if got := query(t, first, "SELECT name FROM things"); got != "kept" {
		t.Errorf("after the restarts the first database has %q", got)
	}
}

func TestPostgresTakesSettings(t *testing.T) {
	t.Parallel()
	db := Postgres(t, "fsync=off", "max_connections=7").Database(t)
	for setting, want := range map[string]string{"fsync": "off", "max_connections": "7", "server_encoding": "UTF8"} {
		if got := query(t, db, "SHOW "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
}

// query returns the first value that a statement yields, if any.
func query(t *testing.T, url, statement string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // nothing is left to lose
	rows, err := conn.Query(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	if rows.Next() {
		if err := rows.Scan(&value); err != nil {
			t.Fatal(err)
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

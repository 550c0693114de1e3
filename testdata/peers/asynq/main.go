// The asynq program keeps jobs in a Redis, with asynq's own client and server in one process. What they survive is
// Redis's to say: with appendonly and appendfsync everysec a task that was accepted is written to the file, and
// survives kill -9 of Redis; a power cut takes up to a second of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jobgate/jobgate/testdata/peers/internal/producers"
)

func main() {
	address := flag.String("redis", "127.0.0.1:6379", "address of a Redis")
	jobs := flag.Int("jobs", 1000, "how many")
	flag.Parse()
	if err := run(*address, *jobs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address string, jobs int) error {
	redis := asynq.RedisClientOpt{Addr: address}
	load := producers.New(jobs)
	// The interval is that between two looks at a queue that was empty: with the second that it is by default, the last
	// jobs would wait for most of it.
	server := asynq.NewServer(redis, asynq.Config{Concurrency: 32, TaskCheckInterval: time.Millisecond, LogLevel: asynq.ErrorLevel})
	mux := asynq.NewServeMux()
	mux.HandleFunc(producers.Name, func(context.Context, *asynq.Task) error {
		load.Done()
		return nil
	})
	if err := server.Start(mux); err != nil {
		return err
	}
	defer server.Shutdown()
	client := asynq.NewClient(redis)
	defer client.Close()
	inspector := asynq.NewInspector(redis)
	defer inspector.Close()
	return load.Run(func(ctx context.Context) error {
		_, err := client.EnqueueContext(ctx, asynq.NewTask(producers.Name, []byte(producers.Payload)))
		return err
	}, func(context.Context) (bool, error) {
		info, err := inspector.GetQueueInfo("default")
		return err == nil && info.Size == 0, err
	})
}

// The nats program keeps jobs in a stream of NATS JetStream in its own process, in a file. A producer goes on when the
// server has acknowledged its message; a consumer acknowledges each, which removes it from the stream.
//
// As it comes, a message is in the file, and survives kill -9, when it is acknowledged; the file is synced every two
// minutes. With -sync each message is on disk before it is acknowledged. What a consumer acknowledges is written later
// in either case: a crash may bring back jobs that were done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/jobgate/jobgate/testdata/peers/internal/producers"
)

const startTimeout = 10 * time.Second

func main() {
	dir := flag.String("dir", "", "an empty directory")
	jobs := flag.Int("jobs", 1000, "how many")
	sync := flag.Bool("sync", false, "on disk before it is acknowledged")
	flag.Parse()
	if err := run(*dir, *jobs, *sync); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, jobs int, sync bool) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "peer", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: sync, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(startTimeout) {
		return errors.New("the server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "jobs", Subjects: []string{"jobs.>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return err
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 1024})
	if err != nil {
		return err
	}
	load := producers.New(jobs)
	worker, err := consumer.Consume(func(m jetstream.Msg) {
		if m.Ack() == nil {
			load.Done()
		}
	})
	if err != nil {
		return err
	}
	defer worker.Stop()
	return load.Run(func(ctx context.Context) error {
		_, err := js.Publish(ctx, "jobs."+producers.Name, []byte(producers.Payload))
		return err
	}, func(ctx context.Context) (bool, error) {
		info, err := stream.Info(ctx)
		return err == nil && info.State.Msgs == 0, err
	})
}

# Drives Sidekiq from Ruby with the verbs of run.py: `ruby run.rb VERB ...`.
# Threads, one process; a fetched job is gone from Redis (basic fetch, what the open-source edition has), so what runs
# at a kill is lost; no result is kept.
require "logger"
require "sidekiq"

TEXT = "x" * 100
BATCH = 500
PAUSE_SECONDS = 0.02
LOOK_SECONDS = 0.0005
PATIENCE_SECONDS = 10.0
QUEUE = "bench"

Sidekiq.logger.level = Logger::WARN
Sidekiq.configure_server { |config| config.redis = {url: ENV["BENCH_REDIS"]} }
Sidekiq.configure_client { |config| config.redis = {url: ENV["BENCH_REDIS"]} }

def now_ns = Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)

# As tally.py.
module Tally
  EVERY = ENV.fetch("BENCH_EVERY", "1").to_i
  LAST = ENV.fetch("BENCH_TASKS", "0").to_i
  LOCK = Mutex.new
  @kept = +""
  @done = 0

  def self.did(number)
    LOCK.synchronize do
      @kept << format("%015d\n", number)
      @done += 1
      return if @done % EVERY != 0 && @done != LAST
      @file ||= File.open(ENV["BENCH_TALLY"], "ab")
      @file.syswrite(@kept)
      @kept = +""
    end
  end
end

# ---- the tasks

class Noop
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(argument) = Tally.did(argument.is_a?(Integer) ? argument : 0)
end

class Sleep10
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(number)
    sleep 0.01
    Tally.did(number)
  end
end

class Nap
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(number)
    sleep 0.2
    Tally.did(number)
  end
end

class Stamp
  include Sidekiq::Worker
  sidekiq_options queue: QUEUE

  def perform(sent_ns) = Tally.did(now_ns - sent_ns)
end

TASKS = {"noop" => Noop, "sleep10" => Sleep10, "nap" => Nap, "stamp" => Stamp}

# ---- the verbs

def timed
  began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  yield
  Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
end

def until_ran(number)
  give_up = now_ns + PATIENCE_SECONDS * 1e9
  while File.size(ENV["BENCH_TALLY"]) < 16 * number
    abort "task #{number} did not start within #{PATIENCE_SECONDS} s" if now_ns > give_up
    sleep LOOK_SECONDS
  end
  sleep PAUSE_SECONDS
end

VERBS = {
  "worker" => ->(concurrency) { exec("sidekiq", "-r", __FILE__, "-c", concurrency, "-q", QUEUE) },
  "fill" => lambda do |task, n|
    (1..n.to_i).each_slice(BATCH) { |numbers| TASKS.fetch(task).perform_bulk(numbers.map { |number| [number] }) }
    n
  end,
  "single" => ->(n) { timed { n.to_i.times { Noop.perform_async(TEXT) } } },
  "bulk" => ->(n) { timed { (n.to_i / BATCH).times { Noop.perform_bulk([[TEXT]] * BATCH) } } },
  "latency" => lambda do |n|
    (1..n.to_i).each do |number|
      Stamp.perform_async(now_ns)
      until_ran(number)
    end
    n
  end
}

if $PROGRAM_NAME == __FILE__
  verb, *words = ARGV
  puts VERBS.fetch(verb).call(*words)
end

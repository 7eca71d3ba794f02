# Empty jobs through Sidekiq, as its own bin/sidekiqload measures: all preloaded, then one process until none is left.
# Usage: sidekiq.rb JOBS, with REDIS_URL. Prints jobs a second.
require "sidekiq"
require "sidekiq/cli"
require "sidekiq/launcher"

$stdout.sync = true
count = Integer(ARGV.fetch(0))

Sidekiq.configure_server do |config|
  config.options[:concurrency] = 10
  config.options[:queues] << "default"
  # A line a job would cost it more than the job.
  config.logger.level = Logger::ERROR
end

class Empty
  include Sidekiq::Worker

  @done = 0
  @lock = Mutex.new
  class << self
    attr_reader :began, :ended, :done

    def ran
      @lock.synchronize do
        @began ||= Process.clock_gettime(Process::CLOCK_MONOTONIC)
        @done += 1
        @ended = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      end
    end
  end

  def perform(_number)
    Empty.ran
  end
end

Sidekiq.redis(&:flushdb)
(0...count).each_slice(10_000) { |numbers| Sidekiq::Client.push_bulk("class" => Empty, "args" => numbers.map { |n| [n] }) }

launcher = Sidekiq::Launcher.new(Sidekiq.options)
launcher.run
sleep 0.05 until Empty.done == count
puts (count / (Empty.ended - Empty.began)).round
$stdout.flush
# Nothing waits any more: its shutdown would only idle.
exit!(0)

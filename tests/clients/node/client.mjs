// The checklist of ../README.md with mysql2.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import mysql from 'mysql2/promise'

const env = process.env
const table = 'client_mysql2'
const options = (password = env.CLIENT_PASSWORD) => ({
  host: env.CLIENT_HOST,
  port: Number(env.CLIENT_PORT),
  user: env.CLIENT_USER,
  password,
  database: env.CLIENT_DATABASE,
  dateStrings: true,
  multipleStatements: true,
  ...(env.CLIENT_CA && { ssl: { ca: readFileSync(env.CLIENT_CA), verifyIdentity: false, checkServerIdentity: () => undefined } }),
})
const rejects = (errno, promise) => assert.rejects(promise, (error) => (assert.equal(error.errno, errno), true))

const steps = {
  async login() {
    await rejects(1045, mysql.createConnection(options('wrong')))
  },
  async text(c) {
    await c.query(`DROP TABLE IF EXISTS ${table}`)
    await c.query(`CREATE TABLE ${table} (id INT PRIMARY KEY, name VARCHAR(100), at DATETIME, big LONGBLOB) DEFAULT CHARSET utf8mb4`)
    await c.query(`INSERT INTO ${table} VALUES (1, ?, '2024-02-29 12:34:56', NULL)`, ['Zoë 漢字 🐬'])
    const [rows] = await c.query(`SELECT * FROM ${table}`)
    assert.deepEqual({ ...rows[0] }, { id: 1, name: 'Zoë 漢字 🐬', at: '2024-02-29 12:34:56', big: null })
    const [several] = await c.query('SELECT 1 AS a; SELECT 2 AS b')
    assert.deepEqual([several[0][0].a, several[1][0].b], [1, 2])
  },
  async prepared(c) {
    for (let n = 0; n < 5; n++) {
      const [rows] = await c.execute(`SELECT id, ? AS n FROM ${table} WHERE id = ?`, [n, 1])
      assert.equal(Number(rows[0].n), n)
    }
  },
  async transaction(c) {
    await c.beginTransaction()
    await c.query(`INSERT INTO ${table} (id) VALUES (2)`)
    await c.rollback()
    await c.beginTransaction()
    await c.execute(`INSERT INTO ${table} (id) VALUES (?)`, [3])
    await c.commit()
    const [rows] = await c.query(`SELECT COUNT(*) AS n FROM ${table} WHERE id IN (2, 3)`)
    assert.equal(rows[0].n, 1)
  },
  async blob(c) {
    const big = randomBytes(20_000_000)
    await c.execute(`INSERT INTO ${table} (id, big) VALUES (4, ?)`, [big])
    const [rows] = await c.execute(`SELECT big FROM ${table} WHERE id = 4`)
    assert.ok(big.equals(rows[0].big))
  },
  async error(c) {
    await rejects(1064, c.query('SELEKT 1'))
    await rejects(1146, c.query('SELECT * FROM no_such_table'))
    await rejects(1062, c.execute(`INSERT INTO ${table} (id) VALUES (1)`))
    const [rows] = await c.query('SELECT 1 AS one')
    assert.equal(rows[0].one, 1)
  },
  async reset(c) {
    await c.query('SET @kept = 1')
    try {
      await c.reset()
    } catch (fault) {
      assert.equal(fault.errno, 1047) // MySQL 5.6 has no COM_RESET_CONNECTION
      return
    }
    const [rows] = await c.query('SELECT @kept AS kept')
    assert.equal(rows[0].kept, null)
  },
}

const connection = await mysql.createConnection(options())
for (const [name, step] of Object.entries(steps)) {
  try {
    await step(connection)
  } catch (fault) {
    console.error(`failed mysql2 ${name}: ${String(fault?.stack ?? fault).slice(0, 800)}`)
    process.exit(1)
  }
  console.log(`ok ${name}`)
}
await connection.end()

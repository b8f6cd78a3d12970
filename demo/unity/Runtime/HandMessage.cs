// What the stream's binary datagrams say, read into memory that is there already. The layout: docs/stream.md.

using System;
using UnityEngine;

namespace Handmesh
{
    public enum Finger { Index, Middle, Ring, Little }

    public enum Gesture { None, Pinch, Open, Point, Fist, ThumbUp }

    /// <summary>
    /// One hand of a frame, as it is sent: OpenXR's axes, metres, flat lists. It is filled anew with each frame: copy
    /// what you keep.
    /// </summary>
    public class HandMessage
    {
        public const int JointCount = 25;

        public long id;
        public string side;
        public float score;
        public float visible_s;
        public bool predicted;
        public float pinch_m;
        public Gesture gesture;
        public readonly float[] positions_m = new float[3 * JointCount];
        public readonly float[] orientations_xyzw = new float[4 * JointCount];
        public readonly float[] radii_m = new float[JointCount];
        private int fingers;

        /// <summary>Whether a finger meets the thumb.</summary>
        public bool Pinches(Finger finger)
        {
            return ((fingers >> (int)finger) & 1) == 1;
        }

        internal void Read(byte[] data, int offset, string handSide)
        {
            int flags = data[offset + 5];
            side = handSide;
            id = BitConverter.ToUInt32(data, offset);
            predicted = (flags & 1) == 1;
            fingers = (flags >> 1) & 15;
            gesture = (Gesture)(flags >> 5);
            score = BitConverter.ToSingle(data, offset + 8);
            visible_s = BitConverter.ToSingle(data, offset + 12);
            pinch_m = BitConverter.ToSingle(data, offset + 16);
            for (int joint = 0; joint < JointCount; joint++)
            {
                int from = offset + 20 + 32 * joint;
                Buffer.BlockCopy(data, from, positions_m, 12 * joint, 12);
                Buffer.BlockCopy(data, from + 12, orientations_xyzw, 16 * joint, 16);
                Buffer.BlockCopy(data, from + 28, radii_m, 4 * joint, 4);
            }
        }
    }

    /// <summary>The newest frame: its numbers, and the surest hand of each side. It is filled anew with each frame.</summary>
    public class FrameMessage
    {
        private const int HeaderBytes = 64;
        private const int HandBytes = 988;
        private static readonly string[] Sides = { HandmeshReceiver.Left, HandmeshReceiver.Right };

        public long sequence;
        public double captured_unix_ms;
        public double sent_unix_ms;
        public bool metric;
        private readonly HandMessage[] hands = { new HandMessage(), new HandMessage() };
        private readonly int[] offsets = new int[2];

        /// <summary>The hand of a side, 0 left and 1 right; null where the frame has none.</summary>
        public HandMessage Hand(int side)
        {
            return offsets[side] > 0 ? hands[side] : null;
        }

        /// <summary>Whether a datagram begins as frames do, of this version or another.</summary>
        public static bool IsFrame(byte[] data, int length)
        {
            return length >= HeaderBytes && data[0] == 'H' && data[1] == 'M' && data[2] == 'F';
        }

        public static uint SequenceOf(byte[] data)
        {
            return BitConverter.ToUInt32(data, 4);
        }

        public static double CapturedOf(byte[] data)
        {
            return BitConverter.ToDouble(data, 16);
        }

        /// <summary>False, and as it was, for what is no whole frame.</summary>
        internal bool Read(byte[] data, int length)
        {
            int left = 0, right = 0, offset = HeaderBytes;
            for (int count = data[60]; count > 0; count--)
            {
                if (offset + HandBytes > length)
                {
                    return false;
                }
                bool isRight = data[offset + 4] == 1;
                int known = isRight ? right : left;
                if (known == 0 || Score(data, offset) > Score(data, known))
                {
                    left = isRight ? left : offset;
                    right = isRight ? offset : right;
                }
                int vertices = 6 * BitConverter.ToUInt16(data, offset + 6);
                offset += HandBytes + (vertices + 3) / 4 * 4;
            }
            sequence = SequenceOf(data);
            captured_unix_ms = CapturedOf(data);
            sent_unix_ms = BitConverter.ToDouble(data, 32);
            metric = (data[61] & 1) == 1;
            offsets[0] = left;
            offsets[1] = right;
            for (int side = 0; side < 2; side++)
            {
                if (offsets[side] > 0)
                {
                    hands[side].Read(data, offsets[side], Sides[side]);
                }
            }
            return true;
        }

        private static float Score(byte[] data, int offset)
        {
            return BitConverter.ToSingle(data, offset + 8);
        }
    }

    /// <summary>OpenXR is right-handed, z towards the viewer; Unity is left-handed, z away: z changes its sign.</summary>
    public static class Axes
    {
        public static Vector3 Position(float[] positions, int joint)
        {
            return new Vector3(positions[3 * joint], positions[3 * joint + 1], -positions[3 * joint + 2]);
        }

        public static Quaternion Orientation(float[] orientations, int joint)
        {
            return new Quaternion(
                -orientations[4 * joint],
                -orientations[4 * joint + 1],
                orientations[4 * joint + 2],
                orientations[4 * joint + 3]);
        }
    }
}

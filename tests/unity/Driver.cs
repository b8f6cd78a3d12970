// Runs HandmeshReceiver outside Unity. It does what each line of its input says, and prints what came of it.
//   update SECONDS       waits for datagrams, then Update at this time
//   joints               every joint of both sides, and whether its hand is shown
//   look                 from now on, handlers look at both hands, and not only at their own
//   frames COUNT FILE    a frame of this file COUNT times, and the collections of garbage that this took
//   skin FILE            of a file with the bind message, the first vertex and triangle of a hand's mesh

using System;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Threading;
using Handmesh;
using UnityEngine;

public static class Driver
{
    private const BindingFlags Hidden = BindingFlags.Instance | BindingFlags.NonPublic;
    private static HandmeshReceiver receiver;

    public static int Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        receiver = new GameObject("handmesh").AddComponent<HandmeshReceiver>();
        receiver.port = int.Parse(arguments[0]);
        receiver.HandChanged += Changed;
        Call("OnEnable");
        Console.WriteLine("ready");
        for (string line = Console.ReadLine(); line != null; line = Console.ReadLine())
        {
            string[] words = line.Split(' ');
            switch (words[0])
            {
                case "update": Thread.Sleep(50); Time.unscaledTime = float.Parse(words[1]); Call("Update"); break;
                case "joints": Call("OnDrawGizmos"); PrintJoints("left"); PrintJoints("right"); break;
                case "look": looks = true; break;
                case "frames": CountCollections(int.Parse(words[1]), File.ReadAllBytes(words[2])); break;
                case "skin": PrintMesh(JsonUtility.FromJson<BindMessage>(File.ReadAllText(words[1]))); break;
            }
            Console.WriteLine("done");
        }
        Call("OnDisable");
        return 0;
    }

    /// <summary>A user's handler.</summary>
    private static void Changed(string side, HandMessage hand)
    {
        if (quiet)
        {
            return;
        }
        string what = hand == null ? "none" : hand.gesture.ToString();
        if (looks)
        {
            what += " " + receiver.Joints("left")[0].localPosition.x + " " + receiver.Joints("right")[0].localPosition.x;
        }
        Console.WriteLine("changed " + side + " " + what);
    }

    private static bool looks;
    private static bool quiet;

    private static void Call(string method)
    {
        typeof(HandmeshReceiver).GetMethod(method, Hidden).Invoke(receiver, null);
    }

    private static void PrintJoints(string side)
    {
        Transform[] joints = receiver.Joints(side);
        Console.WriteLine("shown " + side + " " + joints[0].parent.gameObject.activeSelf);
        foreach (Transform joint in joints)
        {
            Vector3 p = joint.localPosition;
            Quaternion q = joint.localRotation;
            Console.WriteLine("joint " + side + " " + joint.name + " " + string.Join(" ", p.x, p.y, p.z, q.x, q.y, q.z, q.w));
        }
    }

    private static void CountCollections(int count, byte[] frame)
    {
        var offer = (Func<byte[], int, byte[]>)Delegate.CreateDelegate(
            typeof(Func<byte[], int, byte[]>), receiver, typeof(HandmeshReceiver).GetMethod("Offer", Hidden));
        var update = (Action)Delegate.CreateDelegate(
            typeof(Action), receiver, typeof(HandmeshReceiver).GetMethod("Update", Hidden));
        byte[] buffer = new byte[65536];
        quiet = true;
        long first = receiver.Frame.sequence, before = 0;
        for (int number = 0; number < count; number++)
        {
            if (number == count / 10)
            {
                before = GC.CollectionCount(0); // what is made once has been made
            }
            Buffer.BlockCopy(frame, 0, buffer, 0, frame.Length);
            uint sequence = (uint)(first + 1 + number);
            for (int place = 0; place < 4; place++)
            {
                buffer[4 + place] = (byte)(sequence >> (8 * place));
            }
            buffer = offer(buffer, frame.Length);
            update();
        }
        quiet = false;
        Console.WriteLine("frames " + (receiver.Frame.sequence - first) + " collections " + (GC.CollectionCount(0) - before));
    }

    private static void PrintMesh(BindMessage bind)
    {
        Mesh mesh = HandmeshSkin.CreateMesh(bind, bind.hands.left);
        Vector3 first = mesh.vertices[0];
        int last = mesh.triangles.Length - 1;
        Console.WriteLine("vertex " + string.Join(" ", first.x, first.y, first.z));
        Console.WriteLine("last triangle " + string.Join(" ", mesh.triangles[last - 2], mesh.triangles[last - 1], mesh.triangles[last]));
        Console.WriteLine("bones " + mesh.bindposes.Length + " weights " + mesh.boneWeights.Length);
    }
}
